"""Several runs as one: calibrated and chosen only on images that no member was trained on, else refused."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from scipy.special import expit
from sklearn.metrics import log_loss, roc_auc_score

from pneumolit.comparison import ensemble_folder
from pneumolit.comparison.ensemble import (
    GREEDY,
    MEAN,
    OUT_OF_FOLD,
    OWN,
    SHARED,
    Ensemble,
    best_single,
    build_ensemble,
    read_members,
)
from pneumolit.comparison.ensemble_folder import combined_context, read_ensemble, save_ensemble
from pneumolit.comparison.ensemble_method import ensemble_method, ensemble_part
from pneumolit.comparison.method import ENSEMBLE, Method, read_method
from pneumolit.comparison.run import Settings, collect_methods, compare
from pneumolit.evaluation.selection import balanced_log_loss, select_greedily
from pneumolit.report.ensemble import write_ensemble_page
from pneumolit.report.evaluation import rule_sentence
from pneumolit.rundir import RunDir, read_json, read_looks, record_look, write_json

FOLD = {"folds": 2}


def ensemble_of(runs: list[RunDir], kind: str) -> Ensemble:
    return build_ensemble(read_members(runs, [run.path.name for run in runs]), kind)


@pytest.fixture
def folds(made_runs: ModuleType, tmp_path: Path) -> list[RunDir]:
    """Two folds of 40 patients' validation images, of one configuration; each has what the other lacks."""
    halves = [list(range(40)), list(range(40, 80))]
    return [
        made_runs.write_run(tmp_path / f"fold{i}", draw=i, only=halves[i], data={**FOLD, "fold": i}) for i in range(2)
    ]


@pytest.fixture
def no_pictures(monkeypatch: pytest.MonkeyPatch) -> None:
    """They take a second per set, and are looked at elsewhere."""
    monkeypatch.setattr(ensemble_folder, "draw_evaluation", lambda *_: None)


# Which weights


def test_the_loss_weighs_both_classes_alike() -> None:
    positives, log_odds = np.array([1, 1, 1, 0]), np.array([[2.0], [1.0], [-1.0], [-0.5]])
    weights = np.array([1 / 3, 1 / 3, 1 / 3, 1])
    expected = log_loss(positives, expit(log_odds[:, 0]), sample_weight=weights)
    assert balanced_log_loss(positives, log_odds)[0] == pytest.approx(expected, abs=1e-12)


def test_a_greedy_choice_keeps_its_best_step_and_not_its_last() -> None:
    log_odds = np.array([[4.0, -1.0], [-1.0, 4.0], [-4.0, 1.0], [1.0, -4.0]])  # each makes good what the other misses
    weights, losses = select_greedily(np.array([1, 1, 0, 0]), log_odds, rounds=3)
    assert losses[2] > losses[1] and weights.tolist() == [0.5, 0.5]


def test_greedy_picks_what_a_plain_loop_picks() -> None:
    rng = np.random.default_rng(3)
    positives = np.arange(60) % 2
    log_odds = rng.normal(size=(60, 4)) * [1, 2, 3, 4] + 1.5 * (2 * positives[:, None] - 1)
    weights, losses = select_greedily(positives, log_odds, rounds=12)
    picked: list[int] = []
    best: tuple[float, list[int]] = (np.inf, [])
    for _ in range(12):
        tried = []
        for one in range(4):
            mean = log_odds[:, [*picked, one]].mean(axis=1)
            tried.append(log_loss(positives, expit(mean)))  # balanced classes
        picked.append(int(np.argmin(tried)))
        if min(tried) < best[0]:
            best = (min(tried), list(picked))
    assert losses[len(best[1]) - 1] == pytest.approx(best[0], abs=1e-12) and min(losses) == losses[len(best[1]) - 1]
    assert weights == pytest.approx([best[1].count(i) / len(best[1]) for i in range(4)])


def test_greedy_never_does_worse_on_validation_than_its_best_member() -> None:
    positives = np.arange(40) % 2
    for seed in range(20):
        log_odds = np.random.default_rng(seed).normal(size=(40, 3)) + positives[:, None]
        _, losses = select_greedily(positives, log_odds)
        assert min(losses) <= balanced_log_loss(positives, log_odds).min() + 1e-12


# The mean


def test_the_mean_is_that_of_the_members_calibrated_log_odds(four_runs: list[RunDir]) -> None:
    ensemble = ensemble_of(four_runs[:2], MEAN)
    assert ensemble.validation == SHARED
    columns = []
    for run in four_runs[:2]:
        said, fitted = run.read_predictions("test"), read_json(run.calibration_file)["calibration"]
        prior = np.log(fitted["prevalence"] / (1 - fitted["prevalence"]))
        order = np.argsort(said.paths.astype(str))
        columns.append((fitted["slope"] * said.scores + fitted["intercept"] - prior)[order])
    assert ensemble.combine("test").scores == pytest.approx(np.mean(columns, axis=0), abs=1e-9)


def test_members_with_other_classes_agree_on_pneumonia(four_runs: list[RunDir]) -> None:
    """The third run tells two classes apart, the others three."""
    ensemble = ensemble_of(four_runs, MEAN)
    found = ensemble.combine("test")
    assert found.labels.classes == ("NORMAL", "PNEUMONIA")
    alone = [roc_auc_score(found.positives, m.log_odds(m.predictions("test"))) for m in ensemble.members]
    assert roc_auc_score(found.positives, found.scores) > np.median(alone)


def test_the_mean_is_calibrated_again_on_shared_validation(four_runs: list[RunDir]) -> None:
    """A mean of calibrated members is too timid: its slope is above one."""
    ensemble = ensemble_of(four_runs, MEAN)
    assert ensemble.val is not None and ensemble.calibration.slope > 1
    assert {point.name for point in ensemble.points} >= {"primary", "youden"}


# Where the weights may come from


def test_greedy_is_refused_with_the_reason_where_validation_is_not_shared(
    made_runs: ModuleType, tmp_path: Path
) -> None:
    one = made_runs.write_run(tmp_path / "one", only=range(50))
    other = made_runs.write_run(tmp_path / "other", only=range(30, 80), draw=1)
    with pytest.raises(ValueError, match=r"one has 50 images, other has 50, and 20 are the same.* use ensemble=mean"):
        ensemble_of([one, other], GREEDY)
    mean = ensemble_of([one, other], MEAN)
    assert mean.validation == OWN and mean.val is None
    assert (mean.calibration.slope, mean.calibration.intercept) == (1, 0)
    told = combined_context(mean, RunDir(tmp_path / "m"), "test")
    said = rule_sentence({"rules": {"primary": {}}, "context": told})
    assert "nothing is fitted to their mean" in said and "come from validation" not in said


def test_folds_are_calibrated_on_every_image_by_the_member_that_had_not_seen_it(folds: list[RunDir]) -> None:
    ensemble = ensemble_of(folds, GREEDY)
    assert ensemble.validation == OUT_OF_FOLD and ensemble.val is not None
    assert len(set(ensemble.val.paths)) == 80
    # The mean over the folds scores other sets: nothing was seen of it on which it could promise.
    assert {point.promised_sensitivity for point in ensemble.points} == {None}
    told = combined_context(ensemble, RunDir(Path("f")), "test")
    assert "single fold models; their mean is less extreme" in told["calibration"]
    assert ensemble.weights == pytest.approx([0.5, 0.5])  # one configuration: nothing to choose between
    own = {path: score for m in ensemble.members for path, score in
           zip(m.predictions("val").paths, m.log_odds(m.predictions("val")), strict=True)}  # fmt: skip
    assert ensemble.val.scores == pytest.approx([own[path] for path in ensemble.val.paths], rel=1e-8)


def test_a_missing_fold_is_named(folds: list[RunDir], made_runs: ModuleType, tmp_path: Path) -> None:
    own = {"data": {**FOLD, "fold": 0}, "settings": {"seed": 1}}
    third = made_runs.write_run(tmp_path / "other", draw=3, only=range(40), **own)
    with pytest.raises(ValueError, match=r"hold the folds 0 of 2; .* needs each of 0 to 1 once"):
        ensemble_of([*folds, third], MEAN)


def test_an_ensemble_of_one_and_one_of_ensembles_are_refused(four_runs: list[RunDir], tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"ensemble=mean needs at least two runs .* found 1"):
        ensemble_of(four_runs[:1], MEAN)
    other = RunDir(Path(shutil.copytree(four_runs[1].path, tmp_path / "other")))
    write_json(other.ensemble_file, {})
    with pytest.raises(ValueError, match="it is an ensemble itself; leave it out"):
        ensemble_of([four_runs[0], other], MEAN)


# What it gains


def test_the_gain_is_that_over_the_best_member_by_validation_with_an_interval(four_runs: list[RunDir]) -> None:
    settings = Settings("t", num_resamples=200)
    methods, absent = collect_methods(four_runs, [], settings)
    ensemble = ensemble_of(four_runs, GREEDY)
    assert best_single(ensemble.members).run.path.name == "c"
    method = ensemble_method(ensemble, methods, "together", "", settings)
    result = compare([*methods, method], absent, settings)
    part = ensemble_part(ensemble, "together", result, settings)
    assert part is not None
    _, words, (gains, resampled, weights) = part
    assert "best single member by validation AUROC" in words[-1] and "densenet121" in words[-1]
    assert len(gains.rows) == len(resampled.rows) == 1
    cell = gains.rows[0][3]
    scores = ensemble.combine("test")
    single = next(m for m in methods if m.run is not None and m.run.path.name == "c")
    gain = roc_auc_score(scores.positives, scores.scores) - single.metrics["ranking"]["auroc"]
    assert cell.startswith(f"{gain:+.4f}\n[") and cell.endswith("]")
    assert sum(float(row[1]) for row in weights.rows) == pytest.approx(1, abs=0.002)
    assert not any(row.is_reference for row in result.page.methods if row.kind == ENSEMBLE)


def test_an_ensemble_of_folds_leads_the_page_that_its_members_have_no_images_in(folds: list[RunDir]) -> None:
    settings = Settings("t", split="val", num_resamples=100)
    methods, absent = collect_methods(folds, [], settings)
    ensemble = ensemble_of(folds, MEAN)
    result = compare([*methods, ensemble_method(ensemble, methods, "together", "", settings)], absent, settings)
    assert [row.kind for row in result.page.methods] == [ENSEMBLE] and len(result.page.apart) == 2
    assert "the only one on these images" in dict(result.page.summary)["reference"]
    assert not any("was chosen by" in note for note in result.page.notes)
    part = ensemble_part(ensemble, "together", result, settings)
    assert part is not None
    _, words, (weights,) = part
    assert len(weights.rows) == 2 and "best single member" not in " ".join(words)


# The folder


@pytest.mark.usefixtures("no_pictures")
def test_a_saved_ensemble_is_read_like_a_run_and_as_it_was(four_runs: list[RunDir], tmp_path: Path) -> None:
    ensemble = ensemble_of(four_runs, GREEDY)
    run = RunDir(tmp_path / "ensembles" / "all")
    assert save_ensemble(ensemble, run) == ["test", "val"]
    found = read_method(run, "test", "primary")
    assert isinstance(found, Method) and found.kind == ENSEMBLE and found.facts.model.startswith("greedy of")
    assert found.scores == pytest.approx(ensemble.combine("test").scores, abs=1e-7)
    again = read_ensemble(run)
    assert again.combine("test").scores == pytest.approx(ensemble.combine("test").scores, abs=1e-12)
    assert [point.name for point in again.points] == [point.name for point in ensemble.points]
    page = run.page_file.read_text()
    assert "weighted mean of the members" in page and "pneumolit.explain" not in page
    assert "patients</dd>" in page and "patients are not known" not in page
    content = read_json(run.ensemble_file)
    assert content["format_version"] == 1 and content["ensemble"] == GREEDY and content["selection"]["losses"]
    assert sum(member["weight"] for member in content["members"]) == pytest.approx(1)
    assert all((run.path / member["run_dir"]).is_dir() for member in content["members"])
    for name in ("test", "val"):
        file = run.evaluation_metrics_file(name)
        write_json(file, read_json(file) | {"has_patients": False})
    write_ensemble_page(run)
    assert "over images: patients are not known" in run.page_file.read_text()


def test_probabilities_of_an_ensemble_are_checked_only_at_class_mixes_that_they_have(
    made_runs: ModuleType, four_runs: list[RunDir], tmp_path: Path
) -> None:
    # A mean of calibrated log odds stands at prevalence one half: no class mix was trained, and without validation that
    # the members share none is that of validation either.
    parted = [made_runs.write_run(tmp_path / name, only=rows, draw=len(name)) for name, rows in
              (("one", range(50)), ("other", range(30, 80)))]  # fmt: skip
    for name, members, views in (
        ("shared", four_runs, {"calibrated", "rebased"}),
        ("own", parted, {"rebased"}),
    ):
        run = RunDir(tmp_path / "ensembles" / name)
        save_ensemble(ensemble_of(members, MEAN), run)
        metrics = read_json(run.evaluation_metrics_file("test"))
        assert set(metrics["calibration"]) == views
        assert metrics["probability"]["ece_uncalibrated"] is None
        assert (metrics["probability"]["ece"] is None) == (name == "own")
        report = run.evaluation_report_file("test").read_text()
        assert "as trained" not in report and "calibrated, at this class mix" in report
        assert ("at the prevalence of the validation set" in report) == (name == "shared")
        assert (run.evaluation_folder("test") / "reliability.png").is_file()


@pytest.mark.usefixtures("no_pictures")
def test_a_saved_ensemble_is_one_look_at_the_test_split_however_often_it_is_written(
    made_runs: ModuleType, tmp_path: Path
) -> None:
    runs = [made_runs.write_run(tmp_path / "out" / "train" / name, draw=i) for i, name in enumerate("abc")]
    record_look(tmp_path / "out", run="a", configuration="one", test_set="test", purpose="train test=true")
    pair = RunDir(tmp_path / "out" / "ensembles" / "pair")
    for _ in range(2):
        save_ensemble(ensemble_of(runs[:2], MEAN), pair)
        context = read_json(pair.evaluation_metrics_file("test"))["context"]
        assert context["look"] == "look 2 of this test set, configuration 2"
        assert "look" not in read_json(pair.evaluation_metrics_file("val"))["context"]
    save_ensemble(ensemble_of(runs, MEAN), RunDir(tmp_path / "out" / "ensembles" / "three"))
    looks = read_looks(tmp_path / "out")
    assert [look["purpose"] for look in looks] == ["train test=true", "ensemble pair", "ensemble three"]
    assert looks[1]["configuration"] == read_json(pair.status_file)["configuration"] != looks[2]["configuration"]


def test_a_greedy_ensemble_says_on_validation_that_it_was_chosen_there(four_runs: list[RunDir]) -> None:
    ensemble, run = ensemble_of(four_runs, GREEDY), RunDir(Path("g"))
    assert "chosen by these very images" in combined_context(ensemble, run, "val")["chosen"]
    assert "chosen" not in combined_context(ensemble, run, "test")
    assert "chosen" not in combined_context(ensemble_of(four_runs, MEAN), run, "val")
    for split, is_flattered in (("val", True), ("test", False)):
        settings = Settings("t", split=split, num_resamples=100)
        methods, absent = collect_methods(four_runs, [], settings)
        method = ensemble_method(ensemble, methods, "together", "", settings)
        page = compare([*methods, method], absent, settings).page
        assert any("weights of" in note and "together" in note for note in page.notes) == is_flattered
        how = dict(page.summary)["reference"]
        assert how.endswith("(chosen by these very images)" if is_flattered else "this set had no part in it")


def test_commands_that_need_one_model_say_that_the_folder_is_an_ensemble(made_runs: ModuleType, tmp_path: Path) -> None:
    run = made_runs.write_run(tmp_path / "a")
    write_json(run.ensemble_file, {"ensemble": "mean", "validation": "own", "members": []})
    with pytest.raises(
        ValueError, match=r"run_dir=.* is an ensemble of runs, which evaluate, compare, predict and export take"
    ):
        RunDir.open(run.path)
    assert RunDir.open(run.path, takes_ensembles=True).path == run.path


@pytest.mark.usefixtures("no_pictures")
def test_another_ensemble_under_the_same_name_is_refused(four_runs: list[RunDir], tmp_path: Path) -> None:
    run, two = RunDir(tmp_path / "ensembles" / "name"), ensemble_of(four_runs[:2], MEAN)
    save_ensemble(two, run)
    save_ensemble(two, run)  # the same may be written anew
    with pytest.raises(ValueError, match=r"save: .*name holds something else already"):
        save_ensemble(ensemble_of(four_runs[:3], MEAN), run)


@pytest.mark.usefixtures("no_pictures")
def test_a_member_that_is_gone_or_was_trained_anew_is_named(made_runs: ModuleType, tmp_path: Path) -> None:
    runs = [made_runs.write_run(tmp_path / "runs" / name, draw=i) for i, name in enumerate("ab")]
    saved = RunDir(tmp_path / "ensembles" / "saved")
    save_ensemble(ensemble_of(runs, MEAN), saved)
    content = read_json(runs[0].calibration_file)
    content["calibration"]["slope"] *= 2
    write_json(runs[0].calibration_file, content)
    with pytest.raises(ValueError, match="member a was trained or calibrated anew since"):
        read_ensemble(saved)
    shutil.rmtree(runs[0].path)
    with pytest.raises(FileNotFoundError, match=r"its member a is not in .* any more"):
        read_ensemble(saved)
