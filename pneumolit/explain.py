"""Heat maps of a run and what checks say about them:   python -m pneumolit.explain run_dir=FOLDER split=val."""

from __future__ import annotations

if __name__ == "__main__":  # before all else: Ctrl-C among the imports would show a traceback
    from pneumolit.interrupts import leave_at_once

    leave_at_once()

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumolit.allocator import restart_with_allocator
from pneumolit.config import check_values
from pneumolit.entry import run_command
from pneumolit.report.evaluation import TITLES

if TYPE_CHECKING:
    from rich.console import Console

    from pneumolit.rundir import ExplanationDir

SPLITS = tuple(TITLES)
SIDES = ("predicted", "pneumonia", "normal")


def explain(cfg: dict[str, Any], folder: Path) -> None:
    """Explain decisions of a finished run; nothing is looked at that was not evaluated before."""
    from rich.console import Console

    from pneumolit.rundir import RunDir

    check_settings(cfg)
    run = RunDir.open(cfg["run_dir"] or "")
    console = Console(soft_wrap=False)
    from pneumolit.explanation.methods import check_method

    check_method(cfg["method"])  # before a model is loaded
    from pneumolit.explanation.run import explain_subject
    from pneumolit.explanation.subject import open_subject
    from pneumolit.report.explanation_page import write_explanation
    from pneumolit.report.run_page import write_page

    explanation = explain_subject(open_subject(cfg, run, console), cfg, console)
    target = run.explanation(cfg["split"])
    words = write_explanation(explanation, target, run_name=run.path.name)
    write_page(run, cfg["report"]["language"])
    _print(console, target, words, explanation.checks)


def check_settings(cfg: dict[str, Any]) -> None:
    """Refuse settings before anything is read.

    Raises:
        ValueError: names the first key that cannot be.
    """
    check_values(cfg)
    for key, allowed in (("split", SPLITS), ("side", SIDES)):
        if cfg[key] not in allowed:
            near = difflib.get_close_matches(str(cfg[key]), allowed, n=1)
            offer = f"; did you mean {near[0]}?" if near else ""
            raise ValueError(f"{key} must be one of {', '.join(allowed)}, got {cfg[key]!r}{offer}")
    for key, least in (("num", 1), ("num_checked", 2), ("seed", 0)):
        if not isinstance(cfg[key], int) or isinstance(cfg[key], bool) or cfg[key] < least:
            raise ValueError(f"{key} must be a whole number of at least {least}, got {cfg[key]!r}")
    if not isinstance(cfg["checks"], bool):
        raise ValueError(f"checks must be true or false, got {cfg['checks']!r}")
    box = cfg["lung_box"]
    numbers = isinstance(box, list) and all(isinstance(v, int | float) and not isinstance(v, bool) for v in box)
    if not numbers or len(box) != 4 or not (0 <= box[0] < box[2] <= 1 and 0 <= box[1] < box[3] <= 1):
        from pneumolit.report.explanation import USUAL_BOX

        raise ValueError(
            f"lung_box must be [top, left, bottom, right] as shares of the side, from 0 to 1, got {box!r}; "
            f"{list(USUAL_BOX)} is usual"
        )
    if cfg["lung_masks"] is not None and not Path(str(cfg["lung_masks"])).expanduser().is_dir():
        raise ValueError(
            f"lung_masks={cfg['lung_masks']} is not a folder; a folder of PNG masks named as the images is expected"
        )


def _print(console: Console, target: ExplanationDir, words: list[str], checks: dict[str, Any]) -> None:
    from pneumolit.rundir import shortest

    def say(text: str) -> None:
        console.print(f"  {text}", highlight=False, markup=False, soft_wrap=True)

    say(f"{checks['method']} of {checks['backbone']}, {checks['num_images']} images of {checks['split']}")
    for text in words:
        say(f"- {text}")
    if checks["num_without_heat"]:
        say(f"- {checks['num_without_heat']} of the films that are shown hold no heat for their side.")
    say(f"done in {checks['seconds']['in_all']:.0f} seconds")
    say("Research software, not a medical device.")
    for label, path in (("report", target.report_file), ("page", target.page_file)):
        say(f"{label:<7} {shortest(path)}")


def main() -> None:
    """Entry point of the command."""
    restart_with_allocator()
    run_command("explain", explain)


if __name__ == "__main__":
    main()
