"""What `explain` has left in a run folder, for the run's page."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pneumolit.rundir import RunDir

# Groups of films, by the names of their sheets; on the page of a run the errors come first.
RIGHT, WRONG, NEAREST = "surest_right", "surest_wrong", "nearest_to_the_threshold"
SHEETS = (WRONG, NEAREST, RIGHT)


def find_pictures(run: RunDir, name: str) -> list[Path]:
    """Sheets of films and heat maps of an evaluated set; none where `explain` was not run."""
    files = [run.explanation(name).picture_file(sheet) for sheet in SHEETS]
    return [file for file in files if file.is_file()]


def read_words(run: RunDir, name: str) -> list[str]:
    """What the checks of the heat maps found, in sentences; none where there is no such file or it says nothing."""
    try:
        checks: Any = json.loads(run.explanation(name).checks_file.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return []
    words = checks.get("words") if isinstance(checks, dict) else None
    return [text for text in words if isinstance(text, str)] if isinstance(words, list) else []
