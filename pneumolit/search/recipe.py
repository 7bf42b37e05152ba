"""The winner of a search as a recipe of its own: what differs from the packaged options, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import yaml

from pneumolit.config import CONFIG_DIR, flatten

# Groups of `train` whose options are keys of a run; a recipe or a search of the user's is written out instead.
RUN_GROUPS = ("data", "augment", "freeze", "loss", "optim", "scheduler", "callbacks", "trainer", "logger")
_PLACES = ("output_dir", "cache_dir")  # of this machine; the user's own variables name them elsewhere


@dataclass(frozen=True)
class Recipe:
    """A recipe and what it needs beside it.

    Attributes:
        text: the YAML below its header.
        options: texts of options that are in no packaged file, by group.
    """

    text: str
    options: Mapping[str, str] = field(default_factory=dict)


def make_recipe(
    cfg: Mapping[str, Any],
    choices: Mapping[str, Any],
    name: str,
    compose_train: Callable[[Sequence[str]], tuple[Mapping[str, Any], Mapping[str, Any]]],
) -> Recipe:
    """Write a configuration as a recipe.

    Args:
        cfg: complete configuration of the run.
        choices: option of every group that it was composed from.
        name: of the recipe, and of the options beside it.
        compose_train: configuration of `train` and its choices, from overrides.
    """
    _, usual = compose_train([])
    packaged = {g: choices[g] for g in RUN_GROUPS if (CONFIG_DIR / g / f"{choices[g]}.yaml").is_file()}
    base, _ = compose_train([f"{group}={option}" for group, option in packaged.items()])
    # A key that the option has and the run has not cannot be taken away by a recipe.
    own = [
        group
        for group in RUN_GROUPS
        if group not in packaged or not set(flatten(base[group])) <= set(flatten(cfg[group]))
    ]
    groups = {group: (name if group in own else packaged[group]) for group in RUN_GROUPS}
    expected = {**base, **{group: cfg[group] for group in own}}
    overrides = [f"override /{group}: {option}" for group, option in groups.items() if usual.get(group) != option]
    content: dict[str, Any] = {"defaults": [dict([line.split(": ", 1)]) for line in overrides]} if overrides else {}
    old, new = flatten(expected), flatten(cfg)
    for key, value in new.items():
        if key not in _PLACES and (key not in old or old[key] != value):
            _set(content, key, value)
    options = {group: _yaml(cfg[group]) for group in own}
    return Recipe(_yaml(content), options)


def _set(content: dict[str, Any], key: str, value: Any) -> None:
    *path, leaf = key.split(".")
    for part in path:
        content = content.setdefault(part, {})
    content[leaf] = value


def _yaml(content: Any) -> str:
    return str(yaml.safe_dump(content, sort_keys=False, allow_unicode=True, width=110)) if content else "{}\n"
