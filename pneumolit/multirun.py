"""`--multirun`: every job's configuration composed and checked before any begins, then run by a launcher."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from pneumolit.composition import expand_run, plain_config
from pneumolit.config import refuse_unknown_keys

_SHOWN = 5  # unsound jobs that are named
_UNUSED = {
    "hydra.sweep.subdir": "whose jobs are named by what they are",
    "hydra.run.dir": "whose folder is named by sweep.name or hydra.sweep.dir",
}
_begun: list[tuple[Path, Path]] = []  # folders that Hydra's sweeper makes before anything was checked, and output_dir


class SweepRefusedError(Exception):
    """A sweep that cannot begin, with a message for people; Hydra's own errors are explained in other words."""


def begin_sweep(config: Any) -> None:
    """Remember the folder of a sweep, so that a refused one leaves none behind."""
    _begun.append((Path(config.hydra.sweep.dir).absolute(), Path(str(config.output_dir)).absolute()))


@contextlib.contextmanager
def bare_sweeps_removed() -> Iterator[None]:
    """Folders of sweeps that were refused go, with the file that Hydra's sweeper writes into each.

    Nothing above output_dir is touched: an empty folder there belongs to the user.
    """
    _begun.clear()
    try:
        yield
    finally:
        for folder, base in _begun:
            (folder / "multirun.yaml").unlink(missing_ok=True)  # sweep.json says what was asked for
            with contextlib.suppress(OSError):
                for path in (folder, *(p for p in folder.parents if p == base or base in p.parents)):
                    if path != Path.cwd():
                        path.rmdir()  # refused where anything is inside, and that ends it
        _begun.clear()


def run_sweep(
    context: Any, config: Any, overrides: Sequence[Sequence[str]], kind: str, settings: Mapping[str, Any]
) -> None:
    """Run the jobs of a sweep.

    Args:
        context: Hydra's, with its loader of configurations.
        config: composed for the sweep as a whole.
        overrides: of each job.
        kind: of the launcher: devices, ray or slurm.
        settings: its keys.

    Raises:
        SweepRefusedError: an unsound setting or job, or data that cannot be read; nothing has begun then.
        SystemExit: with code 1 where a job failed.
    """
    from omegaconf.errors import OmegaConfBaseException

    try:
        failed = _run_sweep(context, config, overrides, kind, settings)
    except OmegaConfBaseException:  # some of them are ValueErrors
        raise
    except (ValueError, OSError) as error:
        raise SweepRefusedError(str(error)) from error
    if failed:
        raise SystemExit(1)


def _run_sweep(
    context: Any, config: Any, overrides: Sequence[Sequence[str]], kind: str, settings: Mapping[str, Any]
) -> int:
    from rich.console import Console

    if "search" in config:
        raise ValueError(
            "--multirun has no place in a search, which runs its trials side by side by itself (hydra.launcher.gpus, "
            "hydra.launcher.cpu_jobs); leave it out"
        )
    from pneumolit.rundir import SweepDir
    from pneumolit.sweep.plan import SweepSettings
    from pneumolit.sweep.pool import warm_up
    from pneumolit.sweep.run import Asked, sweep_jobs
    from pneumolit.sweep.settings import SETTINGS, DevicesSettings

    _refuse_unused(config)
    ready = {given for job in overrides for given in job if given.startswith("sweep=")}
    if len(ready) > 1:  # Hydra would leave out what each of them varies
        raise ValueError(f"{' and '.join(sorted(ready))} are several ready sweeps; start one after the other")
    refuse_unknown_keys("hydra.launcher", settings, [field.name for field in fields(SETTINGS[kind])])
    launcher = SETTINGS[kind](**_plain(settings))
    keys = _plain(config.sweep)
    name = keys.pop("name")
    refuse_unknown_keys("sweep", keys, [field.name for field in fields(SweepSettings)])
    is_name = isinstance(name, str | int) and not isinstance(name, bool) and str(name).strip() and "/" not in str(name)
    if name is not None and (not is_name or str(name).startswith(".")):
        raise ValueError(f"sweep.name must be the name of a folder, such as sweep.name=night1, got {name!r}")
    if isinstance(launcher, DevicesSettings):
        warm_up(launcher.start)
    configurations = [_job_config(context, config, number, given) for number, given in enumerate(overrides)]
    problems = [found for found in configurations if isinstance(found, str)]
    if problems:
        more = f"\n  ... and {len(problems) - _SHOWN} more" if len(problems) > _SHOWN else ""
        listed = problems[0] if len(problems) == 1 else "\n  ".join(["", *problems[:_SHOWN]]) + more
        raise ValueError(f"nothing was begun, since {len(problems)} of {len(overrides)} jobs are unsound: {listed}")
    folder = Path(config.hydra.sweep.dir)
    asked = Asked(
        sweep=SweepDir(folder if folder.name else folder.absolute()),  # "." names nothing
        configurations=[found for found in configurations if isinstance(found, dict)],
        overrides=[tuple(given) for given in overrides],
        settings=SweepSettings(**keys),
        launcher=launcher,
    )
    (asked.sweep.path / "multirun.yaml").unlink(missing_ok=True)
    return sweep_jobs(asked, Console(soft_wrap=False))


def _refuse_unused(config: Any) -> None:
    """Settings of Hydra's that this launcher does not follow."""
    if config.hydra.sweeper.get("max_batch_size") is not None:
        raise ValueError("hydra.sweeper.max_batch_size has no effect: the pool begins a job when a device is free")
    given = {
        str(o).lstrip("+~").partition("=")[0] for o in (*config.hydra.overrides.hydra, *config.hydra.overrides.task)
    }
    for key, instead in _UNUSED.items():
        if key in given:
            raise ValueError(f"{key} has no effect on a sweep, {instead}; leave it out")
    if {"hydra.sweep.dir", "sweep.name"} <= given:
        raise ValueError("hydra.sweep.dir and sweep.name both name the folder of the sweep; leave one of them out")


def _job_config(context: Any, config: Any, number: int, overrides: Sequence[str]) -> dict[str, Any] | str:
    """Complete configuration of a job, checked, or what is wrong with it."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import open_dict

    from pneumolit.stage_plan import check_run

    composed = context.config_loader.load_sweep_config(config, list(overrides))
    with open_dict(composed):
        composed.hydra.job.id = composed.hydra.job.num = number
        HydraConfig.instance().set_config(composed)
        del composed["hydra"]
    try:
        given = plain_config(composed)
        for key in ("run_dir", "resume"):
            if given[key]:
                raise ValueError(f"{key} has no place in a sweep, which goes on by itself when it is started again")
        asked = expand_run(given)
        check_run(asked)
    except ValueError as error:
        return f"job {number} ({', '.join(overrides)}): {error}"
    return asked


def _plain(settings: Any) -> dict[str, Any]:
    from omegaconf import OmegaConf

    content = OmegaConf.to_container(OmegaConf.create(dict(settings)), resolve=True)
    assert isinstance(content, dict)
    return {str(key): value for key, value in content.items()}
