"""Is a stored run what a run is? Asked before anything in it is used: its folder may come from somebody else."""

from __future__ import annotations

import os
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pneumolit.config import SCHEMA, check_values, flatten

Check = Callable[[Any], bool]
_LARGEST = 1e300
_MISSING = object()


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    # Of whole numbers JSON allows any, and no float holds the largest ones.
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < _LARGEST


def _is_whole(lowest: int, highest: int) -> Check:
    return lambda value: type(value) is int and lowest <= value <= highest


def _is_in(lowest: float, highest: float) -> Check:
    return lambda value: _is_number(value) and lowest <= value <= highest


def _is_numbers(fits: Check) -> Check:
    """One for all channels, or one for each."""
    return lambda value: (
        fits(value) or (isinstance(value, list | tuple) and len(value) in (1, 3) and all(map(fits, value)))
    )


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list | tuple) and all(map(_is_text, value))


@dataclass(frozen=True)
class _Table:
    """A table whose keys have checks of their own, or None where that is said."""

    checks: Mapping[str, Check]
    or_null: bool = False

    def __call__(self, value: Any) -> bool:
        return self.misfit(value) is None

    def misfit(self, value: Any) -> tuple[str, Any] | None:
        return None if self.or_null and value is None else _misfit(value, self.checks)


@dataclass(frozen=True)
class _Tables:
    """A list of such tables; at least so many."""

    checks: Mapping[str, Check]
    least: int = 0

    def __call__(self, value: Any) -> bool:
        return self.misfit(value) is None

    def misfit(self, value: Any) -> tuple[str, Any] | None:
        if not isinstance(value, list) or len(value) < self.least:
            return "", value
        found = ((number, _misfit(one, self.checks)) for number, one in enumerate(value))
        return next(((_joined(number, inner[0]), inner[1]) for number, inner in found if inner is not None), None)


def _joined(key: object, inner: str) -> str:
    return f"{key}.{inner}" if inner else str(key)


_CALIBRATION: Mapping[str, Check] = {"slope": _is_number, "intercept": _is_number, "prevalence": _is_number}
# What every command may rely on; other keys are the business of whoever reads them.
RECORDS: Mapping[str, Mapping[str, Check]] = {
    "status.json": {"state": _is_text},
    "data.json": {
        "classes": _are_texts,
        "positive": _are_texts,
        "prior_log_odds": _is_number,
        "counts": _is_table,
        "fingerprints": _is_table,
    },
    "environment.json": {"packages": _is_table, "weights": _is_table, "precision": _is_table},
    "freeze_plan.json": {"stages": _Tables({})},
    "calibration.json": {
        "calibration": _Table(_CALIBRATION, or_null=True),
        "operating_points": _Tables({"name": _is_text, "threshold": _is_number, "rule": _is_text}),
    },
    "ensemble.json": {
        "ensemble": _is_text,
        "validation": _is_text,
        "members": _Tables(
            {"run_dir": _is_text, "name": _is_text, "weight": _is_number, "calibration": _Table(_CALIBRATION)}
        ),
    },
}
# Of a model, in a checkpoint and in a bundle.
MODEL_SETTINGS: Mapping[str, Check] = {
    "backbone": _is_text,
    "classes": _are_texts,
    "positive": _are_texts,
    "image_size": _is_whole(1, 8192),
    "in_chans": _is_whole(1, 3),
    "head": _is_text,
    "hidden": _is_whole(
        1, 65_536
    ),  # as the key: a layer of so many is made before its weights are compared with the stored ones
    "drop_rate": _is_in(0, 1),
    "mean": _is_numbers(_is_number),
    "std": _is_numbers(_is_in(1e-12, _LARGEST)),
    "prior_log_odds": _is_number,
    "seed": _is_whole(0, 2**63 - 1),
    "loss": _is_table,
    "augment": _is_table,
}
_OR_NULL_CALIBRATION = _Table(_CALIBRATION, or_null=True)
BUNDLE: Mapping[str, Check] = {
    "name": _is_text,
    "identity": _is_text,
    "classes": _are_texts,
    "positive": _are_texts,
    "models": _Tables(
        {
            "weights": _is_text,
            "sha256": _is_text,
            "stored_side": _is_whole(1, 8192),
            "precision": _is_text,
            "weight": _is_in(0, 1),
            "calibration": _OR_NULL_CALIBRATION,
            "settings": _Table(MODEL_SETTINGS),
        },
        least=1,
    ),
    "calibration": _OR_NULL_CALIBRATION,
    "operating_points": _Tables({"name": _is_text, "threshold": _is_number, "rule": _is_text}),
    "validation_log_odds": lambda value: value is None or (isinstance(value, list) and all(map(_is_number, value))),
    "facts": _is_table,
}
REFERENCE: Mapping[str, Check] = {
    "limits": _Table(dict.fromkeys(("sharpness_low", "sharpness_high", "contrast_low", "turned"), _is_number)),
    "rates": _Table(
        {"counted_on": _is_text, "num_films": _is_whole(1, 10**9), "false_alarms": _Table({"any": _is_in(0, 1)})}
    ),
}
METRICS: Mapping[str, Check] = {
    "num_images": _is_number,
    "context": _is_table,
    "positive": _are_texts,
    "class_view": _Table({"accuracy": _is_number}),
    "intervals": _Table({"class_view": _is_table}),
}
_NEEDED_SETTINGS = (
    "backbone", "precision", "model.image_size", "data.source", "data.store_size", "callbacks.checkpoint.use",
)  # fmt: skip
_GROUPS = frozenset(".".join(key.split(".")[:end]) for key in SCHEMA for end in range(1, key.count(".") + 1))


def check_settings(content: Any, file: Path) -> dict[str, Any]:
    """The settings of a stored run, unless they are none.

    Args:
        content: of config.yaml.
        file: where it stands, for the message.

    Raises:
        ValueError: no table of keys, a group that is none, a key that every run has is missing, or a value outside of
            its rule.
    """
    if not isinstance(content, dict):
        raise ValueError(f"{file} must hold keys and values, found {type(content).__name__}; put the run's own back")
    if "ensemble" in content:  # which names its members alone
        return content
    for group in sorted(_GROUPS):
        value: Any = content
        for part in group.split("."):
            value = value.get(part) if isinstance(value, Mapping) else None
        if value is not None and not isinstance(value, Mapping):
            raise ValueError(
                f"{file}: {group} must be a group of keys, found {reprlib.repr(value)}; put the run's own back"
            )
    found = flatten(content)
    missing = [key for key in _NEEDED_SETTINGS if key not in found]
    if missing:
        raise ValueError(f"{file} lacks {', '.join(missing)}, which every run has; put the run's own back")
    try:
        check_values(content)
    except ValueError as error:
        raise ValueError(f"{file}: {'; '.join(str(error).splitlines())}; put the run's own back") from error
    return content


def check_record(content: Mapping[str, Any], file: Path, checks: Mapping[str, Check]) -> None:
    """Refuse a record that lacks what every command may rely on.

    Raises:
        ValueError: names the file and the key.
    """
    misfit = _misfit(content, checks)
    if misfit is not None:
        key, value = misfit
        found = "missing" if value is _MISSING else reprlib.repr(value)
        raise ValueError(f"{file} is damaged: {key} is {found}; put it back as it was written")


def check_metrics(content: Mapping[str, Any], file: Path) -> None:
    """Refuse metrics of an evaluated set that lack what reports and comparisons rely on.

    Raises:
        ValueError: names the file and the key.
    """
    check_record(content, file, METRICS)
    if "rules" in content:  # of two classes
        rules = content["rules"]
        names = list(rules) if isinstance(rules, Mapping) else []
        tables = dict.fromkeys(names, _is_table)
        checks: Mapping[str, Check] = {
            "rules": _Table(tables),
            "ranking": _is_table,
            "intervals": _Table({"rules": _Table(tables), "ranking": _is_table}),
        }
        check_record(content, file, checks)


def check_links(folder: Path) -> None:
    """Refuse a folder with links that lead out of it: what they name would be read, and written, as if it were its own.

    Raises:
        ValueError: names the first one.
    """
    own = os.path.realpath(folder)
    for above, folders, files in os.walk(folder):
        for name in (*folders, *files):
            path = Path(above, name)
            if path.is_symlink() and os.path.commonpath([own, os.path.realpath(path)]) != own:
                raise ValueError(
                    f"{path} is a link to {path.readlink()}, which is not in {folder}; put there what it names"
                )


def _misfit(content: Any, checks: Mapping[str, Check]) -> tuple[str, Any] | None:
    """The first key that does not fit and what stands there; None where all do."""
    if not isinstance(content, Mapping):
        return "", content
    for key, fits in checks.items():
        if key not in content:
            return key, _MISSING
        inner = fits.misfit(content[key]) if isinstance(fits, _Table | _Tables) else None
        if inner is not None:
            return _joined(key, inner[0]), inner[1]
        if not fits(content[key]):
            return key, content[key]
    return None
