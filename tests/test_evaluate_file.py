"""The command `evaluate predictions=FILE`: scores that another program wrote get the same numbers and pictures."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pneumolit.rundir import EvaluationDir, RunDir, read_json

Command = Callable[..., Any]


def write_scores(file: Path, *, name: str = "", with_targets: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities of 60 films, two per patient; returns targets and scores."""
    rng = np.random.default_rng(0)
    targets = np.repeat([0, 1], 30)
    scores = np.round(rng.beta(2 + 2 * targets, 4 - 2 * targets), 6)
    columns = ["path", "score", *["target", "patient_id"] * with_targets, *["name"] * bool(name)]
    lines = [",".join(columns)]
    for i, (target, score) in enumerate(zip(targets, scores, strict=True)):
        cells = [f"{i}.png", str(score), *[str(target), f"p{i // 2}"] * with_targets, *[name] * bool(name)]
        lines.append(",".join(cells))
    file.write_text("\n".join(lines) + "\n")
    return targets, scores


def test_a_file_is_evaluated_with_intervals_over_its_patients_and_pictures(command: Command, tmp_path: Path) -> None:
    targets, scores = write_scores(tmp_path / "theirs.csv")
    outcome = command("evaluate", f"predictions={tmp_path / 'theirs.csv'}")
    assert outcome.code == 0, outcome.err
    folder = EvaluationDir(tmp_path / "out" / "evaluate" / "theirs")
    metrics = read_json(folder.metrics_file)
    assert metrics["num_patients"] == 30
    assert metrics["ranking"]["auroc"] == pytest.approx(roc_auc_score(targets, scores), abs=1e-12)
    half = metrics["rules"]["half"]
    assert half["sensitivity"] == pytest.approx(((scores >= 0.5) & (targets == 1)).sum() / 30, abs=1e-12)
    low, high = metrics["intervals"]["ranking"]["auroc"]
    assert low < metrics["ranking"]["auroc"] < high
    assert (folder.path / "roc.png").is_file() and "taken for probabilities" in folder.report_file.read_text()
    assert str(folder.report_file) in outcome.out


def test_the_predictions_of_a_run_give_the_auroc_of_the_run(command: Command, small_run: Path, tmp_path: Path) -> None:
    run = RunDir(small_run)
    outcome = command("evaluate", f"predictions={run.predictions_file('val')}", "name=7")
    assert outcome.code == 0, outcome.err
    again = read_json(tmp_path / "out" / "evaluate" / "7" / "metrics.json")
    own = read_json(run.evaluation_metrics_file("val"))
    assert again["num_patients"] == own["num_patients"]
    assert again["ranking"]["auroc"] == pytest.approx(own["ranking"]["auroc"], abs=1e-9)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["predictions=absent.csv"], r"predictions=absent\.csv is not a file; a CSV file with columns path and score"),
        (["predictions=bare.csv"], r"the target of 60 of 60 images is not known, .* give a column target"),
        (["predictions=theirs.csv", "run_dir=x"], "evaluated by itself, without run_dir="),
        (["predictions=theirs.csv", "prevalence=0.1"], "evaluated by itself, without prevalence="),
        (["predictions=theirs.csv", "report.language=ko"], r"evaluated by itself, without report\.language="),
        ([], "run_dir is empty; give the folder that a training run printed"),
    ],
)
def test_what_cannot_be_evaluated_is_one_line_and_leaves_nothing(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    write_scores(tmp_path / "theirs.csv")
    write_scores(tmp_path / "bare.csv", with_targets=False)
    outcome = command("evaluate", *arguments)
    assert outcome.code == 2
    assert re.search(message, outcome.err), outcome.err
    assert outcome.err.count("pneumolit: ") == 1 and "Traceback" not in outcome.err
    assert outcome.left == []


def test_images_of_one_class_alone_are_refused(command: Command, tmp_path: Path) -> None:
    (tmp_path / "ill.csv").write_text("path,score,target\na.png,0.9,1\nb.png,0.8,1\n")
    outcome = command("evaluate", f"predictions={tmp_path / 'ill.csv'}")
    assert outcome.code == 2 and "all 2 images are PNEUMONIA; both classes are needed" in outcome.err


def test_several_methods_of_a_file_are_written_each_by_its_own_name(command: Command, tmp_path: Path) -> None:
    file = tmp_path / "both.csv"
    write_scores(file, name="ours v1")
    first = file.read_text()
    write_scores(file, name="theirs")
    file.write_text(first + file.read_text().partition("\n")[2])
    outcome = command("evaluate", f"predictions={file}")
    assert outcome.code == 0, outcome.err
    assert sorted(path.name for path in (tmp_path / "out" / "evaluate").iterdir()) == ["ours_v1", "theirs"]
    refused = command("evaluate", f"predictions={file}", "name=one")
    assert refused.code == 2 and "holds 2 methods, ours v1, theirs" in refused.err


def test_names_that_would_share_a_folder_are_refused_before_anything_is_written(
    command: Command, tmp_path: Path
) -> None:
    file = tmp_path / "both.csv"
    write_scores(file, name="a b")
    first = file.read_text()
    write_scores(file, name="a_b")
    file.write_text(first + file.read_text().partition("\n")[2])
    outcome = command("evaluate", f"predictions={file}")
    assert outcome.code == 2 and "would share a folder; rename one of them" in outcome.err
    assert outcome.left == []
