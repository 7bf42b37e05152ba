"""Bayesian search with pruning over a declared space:   python -m pneumolit.tune search=default n_trials=50."""

from __future__ import annotations

if __name__ == "__main__":  # before all else: Ctrl-C among the imports would show a traceback
    from pneumolit.interrupts import leave_at_once

    leave_at_once()

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumolit.allocator import restart_with_allocator
from pneumolit.composition import chosen_folder, compose_choices, expand_run, given_keys
from pneumolit.config import flatten, loggable_metrics, refuse_unknown_keys
from pneumolit.entry import run_command
from pneumolit.hydra_errors import explain_error

if TYPE_CHECKING:
    from pneumolit.search.plan import Search, SearchSettings
    from pneumolit.search.recipe import Recipe
    from pneumolit.search.space import Axis

OWN_KEYS = (
    "search", "n_trials", "timeout", "name", "storage", "monitor", "max_failed", "accept_code_change",
)  # fmt: skip
_TWO_CLASS_LOSS = "binary_cross_entropy"
_OF_TRAIN = ("run_dir", "resume", "sweep")  # keys of the command `train` that a search has no use for


def tune(cfg: dict[str, Any], folder: Path) -> None:
    """Search in a folder, or go on with the search there."""
    from rich.console import Console

    from pneumolit.search.plan import check_pruner
    from pneumolit.search.run import run_search
    from pneumolit.search.study import SharedStudy
    from pneumolit.sweep.display import say

    console = Console(soft_wrap=False)
    search = plan_search(cfg, folder)
    check_pruner(search)

    def close(study: SharedStudy) -> None:
        from pneumolit.search.results import write_results

        write_results(search, study, lambda point: winner_recipe(search, point), console)

    ending = run_search(search, console, close)
    if not ending.is_reached:
        say(console, f"pneumolit: {ending.reason}; the same command goes on")
        if ending.failed >= search.settings.max_failed:
            raise SystemExit(1)


def plan_search(cfg: Mapping[str, Any], folder: Path) -> Search:
    """The search that a configuration describes, with every part of it checked.

    Args:
        cfg: composed and resolved, plain values.
        folder: of the search.

    Raises:
        ValueError: an unsound setting, space or point of the space, or data that cannot be read.
    """
    from pneumolit.search.space import name_of_key, read_space
    from pneumolit.search.strategy import check_strategy
    from pneumolit.stage_plan import check_run

    given = given_keys()
    base = expand_run({key: value for key, value in cfg.items() if key not in OWN_KEYS})
    try:
        _refuse_keys(cfg, given)
        settings = _settings(cfg, base)
    except (KeyError, TypeError):  # a group that is a value, or a key that was taken out: a run's check has the words
        check_run(base)
        raise
    launcher = _launcher(settings)
    content = cfg["search"]
    if not isinstance(content, Mapping) or set(content) != {"sampler", "pruner", "space"}:
        has = ", ".join(content) if isinstance(content, Mapping) else repr(content)
        raise ValueError(
            f"search must have the keys sampler, pruner and space, got {has}; see --help for a search file"
        )
    check_strategy(content["sampler"], content["pruner"])
    axes = read_space(content["space"])
    for name in (name_of_key(axis.key) for axis in axes):
        if name in given:
            raise ValueError(
                f"{name} is varied by the search, so that your own value has no effect; leave it out, or take it from "
                f"the search by search.space.{name}=null"
            )
    _refuse_unlike_losses(base, settings.monitor, axes)
    _probe(axes)
    return _search(cfg, folder, base, settings, launcher, axes)


def compose_point(overrides: Sequence[str]) -> dict[str, Any]:
    """Complete, checked configuration of a point.

    Args:
        overrides: of the point; those of the command line hold beside them.

    Raises:
        ValueError: the configuration is unsound.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    from pneumolit.stage_plan import check_run, refuse_unused

    try:
        cfg, _ = compose_choices(overrides)
        asked = expand_run({key: value for key, value in cfg.items() if key not in OWN_KEYS})
    except (HydraException, OmegaConfBaseException) as error:
        raise ValueError(explain_error("tune", error, overrides)) from error
    refuse_unused(asked, [override.partition("=")[0].lstrip("+") for override in overrides])
    check_run(asked)
    return asked


def winner_recipe(search: Search, point: Mapping[str, Any]) -> Recipe:
    """A point as a recipe for `train`."""
    from pneumolit.search.recipe import make_recipe
    from pneumolit.search.space import overrides_of

    overrides = overrides_of(search.axes, point)
    _, choices = compose_choices(overrides)

    def compose_train(options: Sequence[str]) -> tuple[dict[str, Any], dict[str, Any]]:
        cfg, own = compose_choices(options, "train")
        return {key: value for key, value in cfg.items() if key not in _OF_TRAIN}, own

    return make_recipe(search.compose(overrides), choices, search.tune.recipe_name, compose_train)


def _refuse_keys(cfg: Mapping[str, Any], given: Sequence[str]) -> None:
    """Keys of a run or a sweep that a search has no use for."""
    for key in given:
        if key.partition(".")[0] in _OF_TRAIN:
            raise ValueError(
                f"{key} has no place in a search, which goes on by itself when the same command is given again; leave "
                "it out"
            )
    if cfg["test"]:
        raise ValueError(
            "test=true would score the test split in every trial, and the best of many looks is no honest number; "
            "leave it out, and score the winner: python -m pneumolit.evaluate run_dir=... split=test"
        )
    devices = cfg["trainer"]["devices"]
    if devices != 1:
        raise ValueError(f"trainer.devices={devices} cannot be inside a search, whose trials have one device each")
    if "name" in given and chosen_folder():
        raise ValueError("name and hydra.run.dir both name the folder of the search; leave one of them out")
    name = cfg["name"]
    if name is not None and not re.fullmatch(r"\w[\w.-]*", str(name)):
        raise ValueError(f"name must be the name of a folder, such as name=resnet50, got {name!r}")


def _settings(cfg: Mapping[str, Any], base: Mapping[str, Any]) -> SearchSettings:
    """The keys of the command itself, checked."""
    from pneumolit.search.plan import SearchSettings

    # What fits the training images best is no choice.
    names = [name for name in loggable_metrics(flatten(base)) if not name.startswith("train/")]
    monitor = cfg["monitor"] if cfg["monitor"] is not None else base["callbacks"]["checkpoint"]["monitor"]
    if monitor not in names:
        near = difflib.get_close_matches(str(monitor), names, n=1, cutoff=0.5)
        offer = f"; did you mean {near[0]}?" if near else ""
        raise ValueError(f"monitor={monitor} is no number of a validation set{offer} (there are {', '.join(names)})")
    keys = ("n_trials", "timeout", "storage", "max_failed", "accept_code_change")
    return SearchSettings(monitor=monitor, **{key: cfg[key] for key in keys})


def _refuse_unlike_losses(base: Mapping[str, Any], monitor: str, axes: Sequence[Axis]) -> None:
    """One loss looks at two classes where the others look at all: the smaller number would win."""
    from pneumolit.search.space import name_of_key

    if not monitor.endswith("/loss") or base["data"]["target"] == "binary":
        return
    for axis in axes:
        is_two_class = [value == _TWO_CLASS_LOSS for value in axis.samples]
        if name_of_key(axis.key) in ("loss", "loss.name") and any(is_two_class) and not all(is_two_class):
            raise ValueError(
                f"monitor={monitor} is of two classes under loss={_TWO_CLASS_LOSS} and of all under the others, so "
                f"that it cannot choose between them; give monitor={monitor.replace('/loss', '/auroc')}, or "
                "data.target=binary"
            )


def _launcher(settings: SearchSettings) -> Any:
    """Where trials run: the same keys as of a sweep on this machine."""
    from hydra.core.hydra_config import HydraConfig
    from omegaconf import OmegaConf

    from pneumolit.sweep.settings import DevicesSettings

    kind = HydraConfig.get().runtime.choices["hydra/launcher"]
    if kind != "devices":
        raise ValueError(
            f"hydra/launcher={kind} has no effect here: a search runs on the devices of its machine. On a cluster "
            "start the same command on several machines, and they share the study"
        )
    keys = OmegaConf.to_container(HydraConfig.get().launcher, resolve=True)
    assert isinstance(keys, dict)
    keys.pop("_target_")
    refuse_unknown_keys("hydra.launcher", map(str, keys), [field.name for field in fields(DevicesSettings)])
    if keys["sweep_minutes"] is not None:
        raise ValueError("hydra.launcher.sweep_minutes has no effect on a search; give timeout=SECONDS")
    return DevicesSettings(**{str(key): value for key, value in keys.items()})


def _probe(axes: Sequence[Axis]) -> None:
    """Compose and check points all over the space, so that nothing unsound begins overnight."""
    from pneumolit.search.space import overrides_of, probing_points

    for point in probing_points(axes):
        overrides = overrides_of(axes, point)
        try:
            compose_point(overrides)
        except ValueError as error:
            where = f"a point of the space is unsound ({', '.join(overrides)})"
            raise ValueError(f"nothing was begun, since {where}: {error}") from error


def _search(
    cfg: Mapping[str, Any],
    folder: Path,
    base: dict[str, Any],
    settings: SearchSettings,
    launcher: Any,
    axes: Sequence[Axis],
) -> Search:
    """All of it, with the data looked at."""
    from rich.console import Console

    from pneumolit.data.store import cache_folder
    from pneumolit.rundir import TuneDir, shortest
    from pneumolit.search.plan import Search
    from pneumolit.sweep.fingerprint import Fingerprints
    from pneumolit.training.environment import source_hash
    from pneumolit.training.progress import data_progress

    with data_progress(Console()) as progress:
        names = Fingerprints(cache_folder(base["cache_dir"]), progress)
        base_name = names.of(base)
    content = cfg["search"]
    return Search(
        tune=TuneDir(shortest(folder)),
        settings=settings,
        base=base,
        base_name=base_name,
        code=source_hash(),
        axes=axes,
        sampler=content["sampler"],
        pruner=content["pruner"],
        launcher=launcher,
        compose=compose_point,
        name_run=names.of,
    )


def main() -> None:
    """Entry point of the command."""
    restart_with_allocator()
    run_command("tune", tune)


if __name__ == "__main__":
    main()
