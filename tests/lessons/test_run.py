"""Lessons from their command to their sentence: what they leave, and that the number is what was measured."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from pneumolit.data.datamodule import rows_of
from pneumolit.data.dataset import load_data
from pneumolit.evaluation.metrics import auroc
from pneumolit.labels import LabelSet
from pneumolit.lessons.choosing import Films, best_threshold, gains_over_draws
from pneumolit.lessons.finding import balanced_accuracy
from pneumolit.lessons.plan import LESSONS
from pneumolit.lessons.taught import scores_of
from pneumolit.lessons.words import WORDS
from pneumolit.predictions import Predictions
from pneumolit.report.language import translate
from pneumolit.rundir import RunDir, read_json, read_looks
from pneumolit.scoring import predict_logits
from pneumolit.training.rescore import load_model

Command = Callable[..., Any]

# A lesson of seconds: a tiny net with random weights, few phantoms.
SMALL = (
    "backbone=test_resnet", "model.pretrained=false", "model.image_size=32", "trainer.max_epochs=1",
    "trainer.accelerator=cpu", "data.batch_size=16", "lesson.phantoms.patients=30", "lesson.new_patients=16",
    "precision=float32",
)  # fmt: skip


def taught(command: Command, name: str, *arguments: str) -> tuple[Any, Path]:
    """Run a small lesson; what the command left, and its folder."""
    outcome = command("train", f"experiment=lesson/{name}", *SMALL, *arguments)
    assert outcome.code == 0, outcome.err
    [found] = [path.parent for path in outcome.left if path.name == "lesson.json"]
    return outcome, found


def numbers(text: str) -> list[str]:
    return re.findall(r"\d+\.\d+", text)


@pytest.mark.slow
def test_split_lesson_leaves_two_runs_and_says_what_their_predictions_say(command: Command) -> None:
    outcome, folder = taught(command, "patient_split", "report.language=ko")
    content, measured = read_json(folder / "lesson.json"), {}
    for name, key in (("wrong", "image"), ("right", "full")):
        run = RunDir.open(folder / name)
        assert read_json(run.status_file)["state"] == "done" and run.page_file.is_file()
        assert f"patient_key: {key}" in run.config_file.read_text()
        measured[name] = [run.read_predictions(of) for of in ("val", "new_patients")]
    val, new = measured["wrong"]
    assert content["number"] == pytest.approx(
        auroc(val.positives, val.scores) - auroc(new.positives, new.scores), abs=2e-3
    )
    assert f"{content['number']:.3f} was memory of the same chests" in content["sentence"]["en"]
    # A sentence of another language may name them in another order.
    assert sorted(numbers(content["sentence"]["en"])) == sorted(numbers(content["sentence"]["ko"]))
    assert content["sentence"]["ko"] in outcome.out and content["sentence"]["ko"] in (folder / "lesson.md").read_text()
    owner = {row["path"]: row["patient_id"] for row in RunDir(folder / "right").read_split()}

    def on_both_sides(name: str) -> set[str]:
        rows = list(RunDir(folder / name).read_split())
        train, val = ({owner[row["path"]] for row in rows if row["split"] == side} for side in ("train", "val"))
        return train & val

    assert on_both_sides("wrong") and not on_both_sides("right")
    assert read_looks(folder.parents[2]) == []


def test_new_patients_are_none_of_those_that_a_run_was_trained_on(command: Command) -> None:
    _, folder = taught(command, "class_mix")
    rows = list(RunDir(folder / "model").read_split())
    new = read_json(RunDir(folder / "model").evaluation_metrics_file("new_patients"))
    assert new["num_images"] == 16 and len(rows) > 16
    assert "look" not in new["context"]


def test_class_mix_changes_the_accuracy_and_not_the_rates(command: Command) -> None:
    _, folder = taught(command, "class_mix")
    new = RunDir(folder / "model").read_predictions("new_patients")
    called, ill = new.positive_preds == 1, new.positives == 1
    sensitivity, specificity, share = called[ill].mean(), (~called[~ill]).mean(), ill.mean()
    rare = 0.1 * sensitivity + 0.9 * specificity
    usual = share * sensitivity + (1 - share) * specificity
    assert read_json(folder / "lesson.json")["number"] == pytest.approx(100 * (usual - rare), abs=0.11)


def test_looks_of_a_lesson_are_counted(command: Command) -> None:
    outcome, folder = taught(command, "best_of_20", "lesson.seeds=3")
    looks = read_looks(folder.parents[2])
    assert [look["purpose"] for look in looks] == ["lesson best_of_20"] * 3
    assert "The best of 3 by test" in outcome.out
    [kept] = folder.glob("candidate_*/checkpoints")  # of the one that was chosen
    run = RunDir(kept.parent)
    cfg = yaml.safe_load(run.config_file.read_text())
    model, data = load_model(run, cfg), load_data(cfg["data"], Path(cfg["cache_dir"]))
    assert read_json(run.status_file)["state"] == "done" and not run.evaluation_folder("val").exists()
    # The way over features that many models share is that of every other evaluation.
    usual = scores_of(predict_logits(model, rows_of(data, "test")), model)
    assert np.allclose(Films(data, data.rows("test"), True).scores(model), usual, atol=1e-4) and np.ptp(usual) > 1e-3


def test_threshold_that_was_chosen_on_test_never_looks_worse_there(command: Command) -> None:
    _, folder = taught(command, "threshold_on_test")
    run, content = RunDir(folder / "model"), read_json(folder / "lesson.json")
    test, new, val = (run.read_predictions(name) for name in ("test", "new_patients", "val"))
    rates = [
        balanced_accuracy(p.positives, p.scores >= best_threshold(chosen_on)) for chosen_on in (test, val)
        for p in (test, new)
    ]  # fmt: skip
    assert rates[0] >= rates[2]
    assert [value for _, value in content["measured"]] == [f"{100 * rate:.1f} %" for rate in rates]
    there, later = gains_over_draws(test, new, best_threshold(val), np.random.default_rng(0))
    assert content["number"] == pytest.approx(100 * (there - later), abs=0.11)
    assert f"sets of {len(test)} films: {content['number']:.1f} points" in content["sentence"]["en"]
    assert len(read_looks(folder.parents[2])) == 1


def of_scores(scores: np.ndarray, positives: np.ndarray) -> Predictions:
    names = np.array([str(n) for n in range(len(scores))], dtype=object)
    logits = np.stack([np.zeros(len(scores)), scores], axis=1)
    return Predictions(LabelSet(("NORMAL", "PNEUMONIA"), ("PNEUMONIA",)), names, names, positives, logits)


def test_choosing_costs_less_the_larger_the_test_set_and_nothing_is_gained_over_the_best() -> None:
    rng = np.random.default_rng(3)
    positives = (np.arange(400) < 300).astype(np.int64)
    patients = of_scores(rng.normal(positives.astype(float)), positives)
    best, costs = best_threshold(patients), []
    for count in (20, 80, 320):
        size = of_scores(np.zeros(count), (np.arange(count) % 4 > 0).astype(np.int64))
        there, later = gains_over_draws(size, patients, best, np.random.default_rng(0))
        assert there > 0 >= later
        costs.append(there - later)
    assert costs[0] > 1.5 * costs[1] > 1.5 * 1.5 * costs[2] > 0
    # Over a fixed threshold far from the best one there is something to gain for every patient.
    assert gains_over_draws(size, patients, best + 2, np.random.default_rng(0))[1] > 0.1


def test_order_of_the_films_matters_to_statistics_of_the_batch_alone(command: Command) -> None:
    _, folder = taught(command, "batch_norm", "lesson.new_patients=80")
    rows = dict(read_json(folder / "lesson.json")["measured"])
    still = {value for label, value in rows.items() if label.startswith("statistics of training")}
    moved = {value for label, value in rows.items() if label.startswith("statistics of the batch")}
    assert len(still) == 1 and len(moved) == 2
    weights = [RunDir(folder / name).checkpoint("last").stat().st_size for name in ("wrong", "right")]
    assert weights[0] == pytest.approx(weights[1], rel=0.01)


def test_best_threshold_separates_what_can_be_separated() -> None:
    scores = np.array([-1.0, 0.5, 2.0, 3.0])
    labels = LabelSet(("NORMAL", "PNEUMONIA"), ("PNEUMONIA",))
    names = np.array(["a", "b", "c", "d"], dtype=object)
    films = Predictions(labels, names, names, np.array([0, 0, 1, 1]), np.stack([np.zeros(4), scores], axis=1))
    assert best_threshold(films) == 2.0


@pytest.mark.parametrize("name", LESSONS)
def test_what_is_asked_and_advised_is_said_in_korean_too(name: str) -> None:
    for text in WORDS[name]:
        assert re.search("[가-힣]", translate(text, "ko")), text


@pytest.mark.slow
@pytest.mark.parametrize("name", LESSONS)
def test_lesson_as_it_is_shows_its_mistake(command: Command, name: str) -> None:
    outcome = command("train", f"experiment=lesson/{name}")
    assert outcome.code == 0, outcome.err
    [found] = [path for path in outcome.left if path.name == "lesson.json"]
    content = json.loads(found.read_text())
    assert content["number"] > 0
    # A sentence of another language may name them in another order.
    assert sorted(numbers(content["sentence"]["en"])) == sorted(numbers(content["sentence"]["ko"]))
    assert re.search("[가-힣]", content["sentence"]["ko"])
    assert all(re.search("[가-힣]", translate(label, "ko")) for label, _ in content["measured"])
