"""Is a stored run what a run is? Asked before anything in it is used: its folder may come from somebody else."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from pneumolit.config import SCHEMA, check_values, flatten

Check = Callable[[Any], bool]


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict)


def _are_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _are(checks: Mapping[str, Check]) -> Check:
    return lambda value: isinstance(value, list) and all(_misfit(item, checks) is None for item in value)


def _of(checks: Mapping[str, Check], *, or_null: bool = False) -> Check:
    return lambda value: (or_null and value is None) or _misfit(value, checks) is None


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
    "freeze_plan.json": {"stages": _are({})},
    "calibration.json": {
        "calibration": _of(_CALIBRATION, or_null=True),
        "operating_points": _are({"name": _is_text, "threshold": _is_number, "rule": _is_text}),
    },
    "ensemble.json": {
        "ensemble": _is_text,
        "validation": _is_text,
        "members": _are(
            {"run_dir": _is_text, "name": _is_text, "weight": _is_number, "calibration": _of(_CALIBRATION)}
        ),
    },
}
METRICS: Mapping[str, Check] = {
    "num_images": _is_number,
    "context": _is_table,
    "positive": _are_texts,
    "class_view": _is_table,
    "intervals": _is_table,
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
            raise ValueError(f"{file}: {group} must be a group of keys, found {value!r}; put the run's own back")
    missing = [key for key in _NEEDED_SETTINGS if key not in flatten(content)]
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
    key = _misfit(content, checks)
    if key is not None:
        found = "nothing" if key not in content else f"{content[key]!r:.60}"
        raise ValueError(f"{file} does not hold what a run has written: {key} is {found}; put the run's own file back")


def _misfit(content: Any, checks: Mapping[str, Check]) -> str | None:
    """The first key that does not fit; None where all do."""
    if not isinstance(content, Mapping):
        return ""
    return next((key for key, fits in checks.items() if key not in content or not fits(content[key])), None)
