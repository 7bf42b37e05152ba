"""Which run to go on with, and whether what is asked for is still that run."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from pneumolit.config import filled, flatten, is_idle
from pneumolit.rundir import DONE, RunDir, is_locked, locked, read_json
from pneumolit.stage_plan import Stage

# Where things lie and how a run is watched; none of it changes a bit of the result, but for the number of processes:
# batches are the same ones with any, and only roundings, dropout and batch norms differ, which the record names. That
# images, split and weights are the same is checked by their contents.
_MAY_DIFFER = (
    "output_dir", "cache_dir", "data.root", "data.manifest", "data.split_file", "data.num_workers", "data.on_device",
    "model.weights", "distill.teacher", "model.allow_download", "trainer.progress_bar", "trainer.cuda_graphs",
    "trainer.devices", "trainer.strategy", "report.language", "logger.images_every", "logger.projector",
)  # fmt: skip
INSTANT = 0.5  # seconds: one that only looks whether a folder is held holds it for a moment


def is_begun(run: RunDir) -> bool:
    """Whether a run has written its record; before that there is nothing to go on with."""
    return run.config_file.is_file() and run.status_file.is_file()


def read_config(run: RunDir) -> dict[str, Any]:
    """The configuration that a run was started with; of one from before a key was known, with its meaning.

    Places and displays that were not known are not filled in: those of now are taken.
    """
    return filled({str(key): value for key, value in run.read_config().items()})


def differences(asked: Mapping[str, Any], stored: Mapping[str, Any], keys: Sequence[str] | None = None) -> list[str]:
    """Where a configuration is not the one that a run was started with, in words.

    Args:
        asked: the composed configuration.
        stored: the run's own.
        keys: dotted keys or groups to compare; None compares all.
    """
    new, old = flatten(asked), flatten(stored)
    names = [
        name
        for name in dict.fromkeys([*new, *old])
        if (name not in _MAY_DIFFER or _is_another_kind(name, new, old))
        and not (is_idle(name, new) and is_idle(name, old))
        and (keys is None or any(name == key or name.startswith(f"{key}.") for key in keys))
    ]
    return [
        f"{name}={new.get(name, 'absent')} instead of {old.get(name, 'absent')}"
        for name in names
        if new.get(name) != old.get(name)
    ]


def _is_another_kind(name: str, new: Mapping[str, Any], old: Mapping[str, Any]) -> bool:
    """Of a teacher: whether one run has one and the other has none; which it is, its contents say."""
    return name == "distill.teacher" and (new.get(name) is None) != (old.get(name) is None)


def refuse_differences(asked: Mapping[str, Any], run: RunDir, keys: Sequence[str] | None = None) -> None:
    """Refuse to go on with a run under another configuration.

    Raises:
        ValueError: names every key that differs.
    """
    found = differences(asked, read_config(run), keys)
    if found:
        raise ValueError(
            f"the run in {run.path} was started with another configuration: {'; '.join(found)}. To go on with it "
            f"give run_dir={shlex.quote(str(run.path))} alone; for another configuration start a new run in another "
            "folder"
        )


def with_places_of(stored: Mapping[str, Any], asked: Mapping[str, Any], keys: Sequence[str]) -> dict[str, Any]:
    """A run's own configuration, with the places and the display that are asked for now.

    Args:
        stored: the run's own configuration.
        asked: the composed one.
        keys: those that the command line sets. Of the others only the cache is taken, which the environment may name,
            the folder of the images where the run's own is gone, and what was not known yet when the run began.
    """
    cfg: dict[str, Any] = yaml.safe_load(yaml.safe_dump(dict(stored)))
    new, old = flatten(asked), flatten(stored)
    for key in _MAY_DIFFER:
        is_moved = key == "data.root" and old.get(key) is not None and not Path(str(old[key])).expanduser().is_dir()
        if key in keys or key not in old or (new.get(key) is not None and (is_moved or key == "cache_dir")):
            *path, leaf = key.split(".")
            target = cfg
            for part in path:
                target = target.setdefault(part, {})
            target[leaf] = new.get(key)
    return cfg


def newest_unfinished(cfg: Mapping[str, Any], folder: Path) -> RunDir | None:
    """The newest run below a folder that has this configuration and is not done.

    One whose data lie where this configuration looks comes before one whose data may have been moved.
    """
    moved = None
    found = sorted(folder.rglob("config.yaml"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found:
        run = RunDir(path.parent)
        try:
            is_open = is_begun(run) and read_json(run.status_file)["state"] != DONE and not is_held(run)
            if is_open and not differences(cfg, stored := read_config(run)):
                if _sources(stored) == _sources(cfg):
                    return run
                moved = moved or run
        except (ValueError, AttributeError, KeyError, yaml.YAMLError):
            continue  # somebody else's files of these names
    return moved


def _sources(cfg: Mapping[str, Any]) -> list[Path | None]:
    """Where the images, their split and their teacher lie."""
    flat = flatten(cfg)
    given = [flat.get(key) for key in ("data.root", "data.manifest", "data.split_file", "distill.teacher")]
    return [None if value is None else Path(str(value)).expanduser().resolve() for value in given]


def find_progress(run: RunDir, stages: Sequence[Stage]) -> tuple[Stage, Mapping[str, Any]] | None:
    """The newest whole checkpoint at the end of an epoch: its stage and how far it is; None where there is none."""
    from pneumolit.training.checkpoints import read_progress

    for stage in reversed(stages):
        progress = read_progress(run.checkpoint(stage.checkpoint("last")))
        if progress is not None:
            return stage, progress
    return None


@contextlib.contextmanager
def held(run: RunDir, seconds: float | None = INSTANT) -> Iterator[None]:
    """Hold a run's folder, so that no second process trains in it.

    Args:
        run: its folder.
        seconds: to wait for a process that holds it; None: as long as it takes.

    Raises:
        ValueError: another process holds it.
    """
    run.path.mkdir(parents=True, exist_ok=True)
    refusal = f"another process is working on the run in {run.path}; wait for it or stop it"
    try:
        with locked(run.lock_file, refusal, seconds):
            try:
                yield
            finally:
                run.lock_file.unlink(missing_ok=True)
    finally:
        with contextlib.suppress(OSError):
            run.path.rmdir()  # refused where a run has written anything


def is_held(run: RunDir) -> bool:
    """Whether a process works in a run's folder at this moment."""
    return is_locked(run.lock_file)
