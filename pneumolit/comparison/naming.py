"""Short names that tell the methods of a comparison apart."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from pneumolit.comparison.facts import read_config
from pneumolit.comparison.method import RUN, Method
from pneumolit.config import flatten
from pneumolit.report.sweep import value_text

_MOST_KEYS = 3  # of a configuration in a name
_LONGEST = 60  # letters
# Neither what was decided nor worth a word in a name.
_SILENT = ("output_dir", "cache_dir", "data.root", "data.manifest", "logger.", "trainer.accelerator", "trainer.devices",
           "trainer.progress_bar", "report.", "test", "backbone", "freeze.", "model.pretrained", "stages")  # fmt: skip


def name_methods(methods: Sequence[Method]) -> list[Method]:
    """The same methods with names that say what differs between them.

    A run is named by its model and by what trained, where these vary, and among those that share both by what their
    sweep varies; where that is not enough by up to three keys of the configuration, and at last by its folder. Files
    and ensembles keep their names.
    """
    runs = [method for method in methods if method.kind == RUN]
    heads = [_head(method, runs) for method in runs]
    keys: list[list[str]] = [[] for _ in runs]
    for places in _alike(heads):
        _add_keys([keys[i] for i in places], [runs[i].facts.choices for i in places])
    if _repeated(heads, keys):
        _add_settings(heads, keys, runs)
    repeated = _repeated(heads, keys)
    named = []
    for place, (method, head, key) in enumerate(zip(runs, heads, keys, strict=True)):
        own = [*key, method.name] if place in repeated else key
        name = ", ".join([*head, *own]) or method.facts.model or method.name
        named.append(replace(method, name=_shortened(name), distinction=", ".join(own)))
    fresh = iter(named)
    return distinct([next(fresh) if m.kind == RUN else replace(m, name=_shortened(m.name)) for m in methods])


def distinct(methods: Sequence[Method]) -> list[Method]:
    """A number behind every further method of the same name, one that no other name has."""
    taken = {method.name for method in methods}
    seen: Counter[str] = Counter()
    found = []
    for method in methods:
        seen[method.name] += 1
        name, count = method.name, seen[method.name]
        while count > 1 and name in taken:
            name, count = f"{method.name} ({count})", count + 1
        taken.add(name)
        found.append(replace(method, name=name))
    return found


def _head(method: Method, runs: Sequence[Method]) -> list[str]:
    """The model and what trained of it, where these vary."""
    models, trained = {m.facts.model for m in runs}, {m.facts.trained for m in runs}
    words = [(method.facts.model, models), (method.facts.trained, trained)]
    return [word for word, all_of_it in words if len(all_of_it) > 1 and word]


def _add_keys(parts: list[list[str]], chosen: Sequence[Mapping[str, Any]]) -> None:
    """Add `key=value` for every key of which there is more than one value."""
    texts = [{key: value_text(value, 6) for key, value in choices.items()} for choices in chosen]
    keys = list(dict.fromkeys(key for one in texts for key in one))
    varied = [key for key in keys if len({one.get(key) for one in texts}) > 1]
    ends = Counter(key.rpartition(".")[2] for key in varied)
    for part, one in zip(parts, texts, strict=True):
        for key in varied:
            end = key.rpartition(".")[2]
            if key in one and key != "backbone" and not key.startswith("freeze"):
                part.append(f"{end if ends[end] == 1 else key}={one[key]}")


def _add_settings(heads: list[list[str]], keys: list[list[str]], runs: Sequence[Method]) -> None:
    """Add settings that differ between runs whose names so far are the same, the first few in the order of the file."""
    for members in _alike([[*head, *key] for head, key in zip(heads, keys, strict=True)]):
        settings = [_settings(runs[i]) for i in members]
        names = list(dict.fromkeys(key for one in settings for key in one))
        varied = [key for key in names if len({value_text(one.get(key)) for one in settings}) > 1][:_MOST_KEYS]
        _add_keys([keys[i] for i in members], [{key: one[key] for key in varied if key in one} for one in settings])


def _alike(names: Sequence[Sequence[str]]) -> list[list[int]]:
    """Places of those that share a name, where there are several."""
    groups: dict[tuple[str, ...], list[int]] = {}
    for place, name in enumerate(names):
        groups.setdefault(tuple(name), []).append(place)
    return [found for found in groups.values() if len(found) > 1]


def _settings(method: Method) -> dict[str, Any]:
    assert method.run is not None
    flat = flatten(read_config(method.run))
    return {key: value for key, value in flat.items() if not key.startswith(_SILENT)}


def _repeated(heads: Sequence[Sequence[str]], keys: Sequence[Sequence[str]]) -> set[int]:
    """Places of the names that more than one run has."""
    names = [(*head, *key) for head, key in zip(heads, keys, strict=True)]
    counts = Counter(names)
    return {place for place, name in enumerate(names) if counts[name] > 1}


def _shortened(name: str) -> str:
    name = " ".join(name.split())
    half = (_LONGEST - 3) // 2
    return name if len(name) <= _LONGEST else f"{name[:half]}...{name[-half:]}"
