"""The space of a search: which keys vary and between which bounds; read, checked, drawn from, written as overrides."""

from __future__ import annotations

import difflib
import itertools
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

_WORDS = ("low", "high", "step", "log", "choices")
_EXAMPLE = "{low: 1.0e-4, high: 1.0e-2, log: true} or {choices: [16, 32]}"
_DIGITS = 6  # of a drawn number: what is run is what is shown, and no further digit of a setting matters
# These decide on which images a trial is scored; the search would take the easiest ones.
_MEASURE = (
    "data.source", "data.root", "data.manifest", "data.demo_seed", "data.target", "data.positive", "data.patient_key",
    "data.duplicates", "data.on_bad_image", "data.val_fraction", "data.seed", "data.folds", "data.fold", "data.carve",
    "data.stratify", "data.holdout_fraction", "data.holdout_blocks", "data.resplit", "data.split_file", "data.stress",
    "data.val_augment", "data.train_fraction", "data",
)  # fmt: skip
_NO_SETTING = ("test", "output_dir", "cache_dir", "run_dir", "resume", "logger", "hydra", "sweep", "search")


class Trial(Protocol):
    """What of Optuna's trial is used here."""

    def suggest_float(self, name: str, low: float, high: float, *, step: float | None, log: bool) -> float:
        """A number."""
        ...

    def suggest_int(self, name: str, low: int, high: int, *, step: int, log: bool) -> int:
        """A whole number."""
        ...

    def suggest_categorical(self, name: str, choices: Sequence[Any]) -> Any:
        """One of several."""
        ...


@dataclass(frozen=True)
class Range:
    """A key with a number between two bounds, both included.

    Attributes:
        key: as an override has it, such as `optim.lr`.
        low: lowest value; whole where all of them are.
        high: highest value.
        step: between neighbouring values; None: any.
        log: whether it is drawn evenly in its logarithm.
    """

    key: str
    low: float
    high: float
    step: float | None = None
    log: bool = False

    @property
    def is_whole(self) -> bool:
        """Whether it takes whole numbers only."""
        return all(isinstance(value, int) for value in (self.low, self.high, self.step or 1))

    @property
    def samples(self) -> tuple[Any, ...]:
        """Values that show whether the axis is sound."""
        return (self.low, self.high) if self.is_whole else (float(self.low), float(self.high))

    def suggest(self, trial: Trial, name: str) -> Any:
        """The value that a trial proposes."""
        if self.is_whole:
            return trial.suggest_int(name, int(self.low), int(self.high), step=int(self.step or 1), log=self.log)
        value = trial.suggest_float(name, self.low, self.high, step=self.step, log=self.log)
        return min(max(float(f"{value:.{_DIGITS}g}"), self.low), self.high)


@dataclass(frozen=True)
class Choices:
    """A key or a group with one of several values.

    Attributes:
        key: as an override has it, such as `optim` or `data.batch_size`.
        values: what it may be.
    """

    key: str
    values: tuple[Any, ...]

    @property
    def samples(self) -> tuple[Any, ...]:
        """Values that show whether the axis is sound."""
        return self.values

    def suggest(self, trial: Trial, name: str) -> Any:
        """The value that a trial proposes; a study stores lists and mappings as their text."""
        by_label = {_label(value): value for value in self.values}
        return by_label[trial.suggest_categorical(name, list(by_label))]


Axis = Range | Choices


def read_space(content: Any) -> tuple[Axis, ...]:
    """Axes from the mapping under `search.space`.

    Args:
        content: keys with dots or nested; each ends in `low` and `high` with `step` or `log`, or in `choices`. What is
            null is left out.

    Raises:
        ValueError: an entry that is no axis, or a key that a search must not vary.
    """
    if not isinstance(content, Mapping):
        raise ValueError(f"search.space must be a mapping from keys to {_EXAMPLE}, got {content!r}")
    axes: dict[str, Axis] = {}
    for key, entry in _entries(content, ""):
        name = name_of_key(key)
        if name in axes:
            raise ValueError(f"search.space names {name} twice; leave one of them out")
        _refuse_key(name)
        axes[name] = _axis(key, entry)
    if not axes:
        raise ValueError(f"search.space is empty; give a key at least, such as optim.lr: {_EXAMPLE}")
    return tuple(axes.values())


def name_of_key(key: str) -> str:
    """A key without the plus that adds it: `+optim.betas` is called `optim.betas`."""
    return key.lstrip("+")


def suggest_point(axes: Sequence[Axis], trial: Trial) -> dict[str, Any]:
    """What a trial proposes, by name."""
    return {name_of_key(axis.key): axis.suggest(trial, name_of_key(axis.key)) for axis in axes}


def overrides_of(axes: Sequence[Axis], point: Mapping[str, Any]) -> list[str]:
    """A point as the command line of `train` would say it."""
    return [f"{axis.key}={override_value(point[name_of_key(axis.key)])}" for axis in axes]


def probing_points(axes: Sequence[Axis], most: int = 24) -> list[dict[str, Any]]:
    """Points that show whether a space is sound: every combination of bounds and choices where these are few.

    Else each bound and choice occurs once, beside the first of all others and beside the last of all others.
    """
    names = [name_of_key(axis.key) for axis in axes]
    samples = [axis.samples for axis in axes]
    if math.prod(map(len, samples)) <= most:
        return [dict(zip(names, values, strict=True)) for values in itertools.product(*samples)]
    points = []
    for others in ([s[0] for s in samples], [s[-1] for s in samples]):
        base = dict(zip(names, others, strict=True))
        points.append(base)
        points += [
            {**base, name: value}
            for name, values in zip(names, samples, strict=True)
            for value in values
            if value != base[name]
        ]
    return points


def describe_space(axes: Sequence[Axis]) -> dict[str, str]:
    """Each axis in words, by name.

    >>> describe_space([Range("optim.lr", 1e-4, 0.01, log=True), Choices("optim", ("adamw", "sgd"))])
    {'optim.lr': '0.0001 to 0.01 (log)', 'optim': 'adamw, sgd'}
    """
    words = {}
    for axis in axes:
        if isinstance(axis, Choices):
            text = ", ".join(map(override_value, axis.values))
        else:
            step = "" if axis.step is None else f" in steps of {axis.step:g}"
            whole = ", whole numbers" if axis.is_whole and axis.step is None else ""
            text = f"{axis.low:g} to {axis.high:g}{step}{whole}{' (log)' if axis.log else ''}"
        words[name_of_key(axis.key)] = text
    return words


def override_value(value: Any) -> str:
    """A value in the grammar of Hydra's overrides.

    >>> [override_value(v) for v in (1e-05, True, None, "adamw", "a b", [0.7, "x"], {"a": 1}, "1e3")]
    ['1e-05', 'true', 'null', 'adamw', "'a b'", '[0.7,x]', '{a:1}', "'1e3'"]
    """
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    if isinstance(value, list | tuple):
        return f"[{','.join(map(override_value, value))}]"
    if isinstance(value, Mapping):
        return "{" + ",".join(f"{key}:{override_value(entry)}" for key, entry in value.items()) + "}"
    if not isinstance(value, str):
        return repr(value)
    if re.fullmatch(r"[A-Za-z_][\w./-]*", value) and value.lower() not in ("null", "true", "false", "nan", "inf"):
        return value
    escaped = re.sub(r"(\\*)('|$)", lambda found: found[1] * 2 + ("\\'" if found[2] else ""), value)
    return f"'{escaped}'"


def _entries(content: Mapping[Any, Any], prefix: str) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Keys and what stands below them; a group may have choices and keys that vary beside each other."""
    entry = {str(word): value for word, value in content.items() if word in _WORDS and prefix and value is not None}
    below = {str(word): value for word, value in content.items() if str(word) not in entry and value is not None}
    for word, value in below.items():
        if not isinstance(value, Mapping):
            near = difflib.get_close_matches(word, _WORDS, n=1)
            offer = f"; did you mean {near[0]}?" if near else ""
            key = f"{prefix}.{word}" if prefix else word
            raise ValueError(f"search.space.{key} must be a mapping such as {_EXAMPLE}, got {value!r}{offer}")
    if entry:
        yield prefix, entry
    for word, value in below.items():
        yield from _entries(value, f"{prefix}.{word}" if prefix else word)


def _axis(key: str, entry: Mapping[str, Any]) -> Axis:
    place = f"search.space.{name_of_key(key)}"
    if "choices" in entry:
        if len(entry) > 1:
            others = ", ".join(word for word in entry if word != "choices")
            raise ValueError(f"{place} has choices and {others}; give either choices or bounds")
        values = entry["choices"]
        if not isinstance(values, list | tuple) or len(values) < 2:
            raise ValueError(f"{place}.choices must be a list of at least two values, got {values!r}")
        repeated = [value for number, value in enumerate(values) if value in values[:number]]
        if repeated:
            raise ValueError(f"{place}.choices names {repeated[0]!r} twice; leave one of them out")
        return Choices(key, tuple(values))
    missing = [word for word in ("low", "high") if word not in entry]
    if missing:
        raise ValueError(f"{place} has no {' and no '.join(missing)}; an axis is {_EXAMPLE}")
    for word in ("low", "high", "step"):
        value = entry.get(word)
        is_number = isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
        if word in entry and not is_number:
            raise ValueError(f"{place}.{word} must be a number, got {value!r}")
    low, high, step, log = entry["low"], entry["high"], entry.get("step"), entry.get("log", False)
    if not isinstance(log, bool):
        raise ValueError(f"{place}.log must be true or false, got {log!r}")
    if not low < high:
        raise ValueError(f"{place}.high must be above low={low}, got {high}")
    if log and low <= 0:
        raise ValueError(f"{place}.low must be above 0 where log is true, got {low}")
    if log and step is not None:
        raise ValueError(f"{place} has step and log; leave one of them out")
    if step is not None:
        steps = (high - low) / step if step > 0 else 0.0
        if steps < 1 or abs(steps - round(steps)) > 1e-6:
            raise ValueError(f"{place}.step must go a whole number of times from low={low} to high={high}, got {step}")
    return Range(key, low, high, step, log)


def _refuse_key(name: str) -> None:
    if name in _MEASURE:
        raise ValueError(
            f"search.space.{name} would change the images that trials are scored on, so that their numbers could not "
            f"be compared; leave it out, or set {name} for all of them"
        )
    if name == "experiment":
        raise ValueError(
            "search.space.experiment would take recipes whose images may differ, so that their numbers could not be "
            "compared; search the settings in which they differ, or compare them by --multirun experiment=A,B"
        )
    if name.partition(".")[0] in _NO_SETTING:
        raise ValueError(f"search.space.{name} is no setting of a model or its training; leave it out")


def _label(value: Any) -> Any:
    return value if value is None or isinstance(value, bool | int | float | str) else override_value(value)
