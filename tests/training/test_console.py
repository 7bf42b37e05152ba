"""What a person reads of a run on the console is grammatical and true."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
from rich.console import Console

from pneumolit.rundir import RunDir, read_json
from pneumolit.training.console import print_result, say_duration


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "0 seconds"), (0.6, "1 second"), (1.4, "1 second"), (1.6, "2 seconds"), (59.6, "1.0 minutes")],
)
def test_one_second_is_no_plural_and_sixty_are_minutes(seconds: float, words: str) -> None:
    assert say_duration(seconds) == words


@pytest.mark.parametrize(("has_patients", "over"), [(True, "patients"), (False, "images")])
def test_the_table_says_what_its_intervals_are_over(small_run: Path, has_patients: bool, over: str) -> None:
    run, out = RunDir(small_run), io.StringIO()
    metrics = read_json(run.evaluation_metrics_file("val"))
    assert metrics["has_patients"]
    results = {"val": metrics | {"has_patients": has_patients}}
    print_result(Console(file=out, width=200), run, results, seconds=1.0, is_tested=False)
    assert f"result, with 95 % intervals over {over}" in out.getvalue()
