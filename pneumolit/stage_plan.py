"""`stages:` becomes a list of complete configurations, one per stage; nothing is built here."""

from __future__ import annotations

import copy
import difflib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pneumolit.config import SCHEMA, check_config, flatten

LoadOption = Callable[[str, str], Mapping[str, Any]]  # (group, option) -> the option's keys
STARTS = ("best", "last")

_GROUPS = ("freeze", "optim", "scheduler", "augment", "loss")  # given as a whole, by option name or by mapping
_IDENTITY = {"freeze": "policy", "optim": "_target_", "scheduler": "name", "loss": "name"}
_ALIASES = {
    "epochs": "trainer.max_epochs",
    "image_size": "model.image_size",
    "batch_size": "data.batch_size",
    "lr": "optim.lr",
}
# What may change from one stage to the next; the rest describes the run, its data and its model.
_CHANGEABLE = (
    *(f"{group}." for group in _GROUPS),
    "callbacks.ema.", "callbacks.swa.", "callbacks.early_stopping.", "callbacks.checkpoint.monitor",
    "model.image_size", "model.train_size", "model.drop_rate", "data.batch_size",
    "trainer.max_epochs", "trainer.gradient_clip_val", "trainer.accumulate_grad_batches", "trainer.limit_train_batches",
    "trainer.cache_features", "trainer.feature_views",
)  # fmt: skip


@dataclass(frozen=True)
class Stage:
    """One part of a run with its own optimizer, schedule, freezing and image size.

    Attributes:
        index: counts from 0.
        count: stages of the run.
        name: for people; its number where none was given.
        start: weights it begins with: those of the `best` or the `last` epoch of the stage before; "" for the first.
        cfg: a complete configuration of a run with this one stage.
    """

    index: int
    count: int
    name: str
    start: str
    cfg: dict[str, Any]

    @property
    def epochs(self) -> int:
        """Planned epochs of this stage."""
        return int(self.cfg["trainer"]["max_epochs"])

    @property
    def is_last(self) -> bool:
        """Whether the run ends with it."""
        return self.index == self.count - 1

    def checkpoint(self, which: str) -> str:
        """Name of its `best` or `last` checkpoint; those of the last stage are the run's."""
        return which if self.is_last else f"stage{self.index + 1}_{which}"


def expand_stages(cfg: Mapping[str, Any], load_option: LoadOption) -> dict[str, Any]:
    """Write every stage out: names of options become their keys, short names the full ones.

    Args:
        cfg: composed configuration; `stages` is null or a list of mappings. In each, `freeze`, `optim`, `scheduler`,
            `augment` and `loss` take the name of an option or a mapping that replaces the group; any other key that
            may change is written with dots (`optim.lr`), or short: epochs, image_size, batch_size, lr.
        load_option: reads an option of a group.

    Raises:
        ValueError: `stages` is no list of mappings, or a stage has a key that does nothing.
    """
    expanded = dict(copy.deepcopy(dict(cfg)))
    stages = expanded.get("stages")
    if stages is None:
        return expanded
    if not isinstance(stages, list) or not stages or not all(isinstance(s, Mapping) for s in stages):
        raise ValueError(
            f"stages must be null or a list of mappings, got {stages!r}; for instance "
            "'stages=[{freeze: head, epochs: 3}, {freeze: none, epochs: 5, lr: 1e-4}]' in single quotes"
        )
    expanded["stages"] = [_expand(number, stage, load_option) for number, stage in enumerate(stages, start=1)]
    return expanded


def plan_stages(cfg: Mapping[str, Any]) -> list[Stage]:
    """The stages of an expanded configuration; one that says nothing else without `stages`.

    Raises:
        ValueError: the key `start` of a stage is neither best nor last, or of the first stage.
    """
    base = {k: v for k, v in copy.deepcopy(dict(cfg)).items() if k != "stages"}
    stages = cfg.get("stages")
    if stages is None:
        return [Stage(0, 1, "1", "", {**base, "stages": None})]
    planned = []
    for index, changes in enumerate(stages):
        start = str(changes.get("start", "best")) if index else ""
        if not index and "start" in changes:
            raise ValueError("stage 1: start has no effect, since no stage comes before it; leave it out")
        if index and start not in STARTS:
            raise ValueError(f"stage {index + 1}: start must be one of {', '.join(STARTS)}, got {start!r}")
        stage_cfg = copy.deepcopy({**base, "stages": None})
        for key, value in changes.items():
            if key in _GROUPS:
                stage_cfg[key] = copy.deepcopy(value)
        for key, value in changes.items():
            if key not in (*_GROUPS, "start", "name"):
                _set(stage_cfg, key, value)
        planned.append(Stage(index, len(stages), str(changes.get("name", index + 1)), start, stage_cfg))
    return planned


def refuse_unused(cfg: Mapping[str, Any], given: Sequence[str]) -> None:
    """Refuse keys beside `stages` that every stage sets itself.

    Args:
        cfg: expanded configuration.
        given: dotted keys and groups that a person set.

    Raises:
        ValueError: names the first key without effect.
    """
    stages = cfg.get("stages") or []
    for key in given:
        group = key.partition(".")[0]
        if stages and all(key in stage or (group in _GROUPS and group in stage) for stage in stages):
            raise ValueError(f"{key} has no effect because every stage sets its own; leave it out or change the stages")


def check_run(cfg: Mapping[str, Any]) -> None:
    """Refuse an unsound training configuration, every stage of it.

    Raises:
        ValueError: names every problem of the first unsound stage: key, value, what is allowed.
    """
    for stage in plan_stages(cfg):
        try:
            check_config(stage.cfg)
        except ValueError as error:
            raise ValueError(f"stage {stage.name}: {error}" if stage.count > 1 else str(error)) from None


def _expand(number: int, stage: Mapping[str, Any], load_option: LoadOption) -> dict[str, Any]:
    full: dict[str, Any] = {}
    single: dict[str, Any] = {}
    # `callbacks: {early_stopping: {patience: 3}}` and `callbacks.early_stopping.patience: 3` say the same.
    nested = {k: v for k, v in stage.items() if isinstance(v, Mapping) and k not in _GROUPS}
    for short, value in {**{k: v for k, v in stage.items() if k not in nested}, **flatten(nested)}.items():
        key = _ALIASES.get(str(short), str(short))
        if key in full or key in single:
            raise ValueError(f"stage {number} sets {key} twice ({short} is the same key); leave one of them out")
        if key in _GROUPS:
            full[key] = _group(f"stage {number}: {key}", key, value, load_option)
        elif key in ("start", "name"):
            full[key] = value
        elif key.startswith(_CHANGEABLE):
            single[key] = value
        else:
            raise ValueError(f"stage {number}: {key} {_why_not(key, full)}")
    for key, value in single.items():
        group, _, rest = key.partition(".")
        if group in full:
            _set(full[group], rest, value)
        else:
            full[key] = value
    return full


def _group(place: str, group: str, value: Any, load_option: LoadOption) -> dict[str, Any]:
    """The keys of a group that a stage names or writes out."""
    if isinstance(value, str):
        return dict(load_option(group, value))
    if isinstance(value, Mapping) and value:
        identity = _IDENTITY.get(group)
        if identity is not None and identity not in value:
            key, first = next(iter(value.items()))
            raise ValueError(
                f"{place} is a mapping that replaces the whole group, but has no {identity}; to change single keys "
                f"write {group}.{key}: {first}, alone or beside {group}: OPTION"
            )
        return dict(value)
    raise ValueError(f"{place} must be the name of an option or a mapping of its keys, got {value!r}")


def _why_not(key: str, groups: Mapping[str, Mapping[str, Any]]) -> str:
    if key in SCHEMA:
        return f"cannot change between stages; set {key} once for the run"
    known = [*_GROUPS, *_ALIASES, "start", "name", *(k for k in SCHEMA if k.startswith(_CHANGEABLE))]
    inside = [f"{group}.{key}" for group in _GROUPS if key in groups.get(group, {})]
    near = inside or difflib.get_close_matches(key, known, n=2, cutoff=0.6)
    return "is no key that does anything" + (f"; did you mean {' or '.join(near)}?" if near else "")


def _set(cfg: dict[str, Any], key: str, value: Any) -> None:
    *path, leaf = key.split(".")
    for part in path:
        cfg = cfg.setdefault(part, {})
        if not isinstance(cfg, dict):
            raise ValueError(f"{key} is no key that does anything: {part} is a value, not a group")
    cfg[leaf] = value
