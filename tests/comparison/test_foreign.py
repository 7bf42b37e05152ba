"""Files of predictions that another program wrote: read as they are, matched to images, nothing guessed in silence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from pneumolit.comparison.foreign import Scores, foreign_method, read_scores, to_predictions
from pneumolit.comparison.method import FILE, Absent, Method, read_method
from pneumolit.evaluation.summary import summarise
from pneumolit.rundir import EvaluationDir, RunDir
from pneumolit.scoring import report_foreign

HEADER = "path,score\n"
# Two patients with pneumonia, one of them with two films, and two without.
FILMS = (
    "test/PNEUMONIA/person7_bacteria_1.jpeg",
    "test/PNEUMONIA/person7_bacteria_2.jpeg",
    "test/PNEUMONIA/person9_virus_3.jpeg",
    "test/NORMAL/IM-0001-0001.jpeg",
    "test/NORMAL/NORMAL2-IM-0002-0001.jpeg",
)


def written(folder: Path, text: str, name: str = "other.csv") -> Path:
    (folder / name).write_text(text, encoding="utf-8")
    return folder / name


def scored(folder: Path, paths: Sequence[str], scores: Sequence[float], more: Sequence[str] = ()) -> Scores:
    """A file of scores, read; `more` are the cells of a column target."""
    cells = zip(paths, map(repr, map(float, scores)), *([more] if more else []), strict=True)
    lines = map(",".join, cells)
    (one,) = read_scores(written(folder, f"path,score{',target' if more else ''}\n" + "\n".join(lines) + "\n"))
    return one


@pytest.fixture(scope="module")
def known(four_runs: list[RunDir]) -> Method:
    method = read_method(four_runs[0], "test", "primary")
    assert isinstance(method, Method)
    return method


def as_method(scores: Scores, known: Sequence[Method] = ()) -> Method:
    method = foreign_method(scores, known, num_resamples=50, seed=0)
    assert isinstance(method, Method), method
    return method


# Reading.


def test_a_file_of_a_windows_spreadsheet_is_read(tmp_path: Path) -> None:
    text = (
        "\ufeffpath,score,target,patient_id,remark\r\ntest\\NORMAL\\a.png, 0.25 ,normal,p1,x\r\nb.png,1,Bacteria,,\r\n"
    )
    (one,) = read_scores(written(tmp_path, text))
    assert (one.name, one.paths) == ("other", ("test/NORMAL/a.png", "b.png"))
    assert (one.scores.tolist(), one.targets, one.patients) == ([0.25, 1.0], (0, 1), ("p1", ""))


def test_rows_of_several_names_are_several_methods_and_keep_their_order(tmp_path: Path) -> None:
    text = "name,path,score\nnet,a,.1\ntree,a,.9\nnet,b,.2\n,a,.5\n"
    found = read_scores(written(tmp_path, text, "mixed.csv"))
    assert [(one.name, one.paths, one.scores.tolist()) for one in found] == [
        ("net", ("a", "b"), [0.1, 0.2]),
        ("tree", ("a",), [0.9]),
        ("mixed", ("a",), [0.5]),
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,score\na,.5\n", r"must have the columns path and score, found \['file', 'score'\]"),
        ("path;score\na;.5\n", r"must have the columns path and score, found \['path;score'\]"),
        ("", r"must have the columns path and score, found \[\]"),
        (HEADER + "a,0,93\n", r"line 2: more cells than the 2 columns; write decimals with a point"),
        (HEADER, r"has no row"),
        (HEADER + "a,.5\n,.5\n", r"line 3: the path is empty"),
        (HEADER + "a,.5\nb,high\n", r"line 3: the score must be a finite number, got 'high'"),
        (HEADER + "a,nan\n", r"must be a finite number, got 'nan'"),
        (HEADER + "a,inf\n", r"must be a finite number, got 'inf'"),
        (HEADER + "a\n", r"must be a finite number, got ''"),
        (HEADER + '"a","0,5"\n', r"must be a finite number, got '0,5'"),
        ("path,score,target\na,.5,2\n", r"the target must be 0 or 1, or one of NORMAL, PNEUMONIA, .* got '2'"),
        (HEADER + "a,.5\nb,.5\na,.6\n", r"names 1 images more than once, the first \['a'\]"),
    ],
)
def test_what_cannot_be_read_is_refused_with_file_and_place(tmp_path: Path, text: str, message: str) -> None:
    file = written(tmp_path, text)
    with pytest.raises(ValueError, match=message) as refused:
        read_scores(file)
    assert str(file) in str(refused.value)


# Next to runs.


def test_scores_of_the_images_of_a_run_stand_in_its_order_with_its_targets(tmp_path: Path, known: Method) -> None:
    order = np.random.default_rng(0).permutation(len(known))
    values = np.random.default_rng(1).normal(size=len(known)).round(3)
    method = as_method(scored(tmp_path, known.paths[order].tolist(), values[order].tolist()), [known])
    assert method.paths.tolist() == known.paths.tolist() and method.scores is not None
    assert method.scores.tolist() == values.tolist()
    assert method.targets.tolist() == known.targets.tolist()
    assert method.patient_ids.tolist() == known.patient_ids.tolist()
    assert method.kind == FILE
    truth = known.targets.astype(int)
    assert method.metrics["ranking"]["auroc"] == pytest.approx(roc_auc_score(truth, values), abs=1e-9)


@pytest.mark.parametrize("where", ["/home/them/chest_xray/{}", "{}", "./{}"])
def test_leading_folders_do_not_matter(tmp_path: Path, known: Method, where: str) -> None:
    paths = [where.format(path) for path in known.paths]
    method = as_method(scored(tmp_path, paths, np.linspace(-2, 2, len(known)).tolist()), [known])
    assert method.paths.tolist() == known.paths.tolist()


def test_bare_file_names_are_found_where_they_are_clear(tmp_path: Path, known: Method) -> None:
    names = [path.rpartition("/")[2] for path in known.paths]
    method = as_method(scored(tmp_path, names, np.linspace(-2, 2, len(known)).tolist()), [known])
    assert method.paths.tolist() == known.paths.tolist()


def test_one_row_is_never_the_score_of_two_images(tmp_path: Path, known: Method) -> None:
    twins = np.array([f"{'NORMAL' if i % 2 else 'PNEUMONIA'}/{i // 2}.png" for i in range(len(known))], dtype=object)
    pairs = replace(known, paths=twins)  # every file name stands in two folders
    names = sorted({path.rpartition("/")[2] for path in twins})
    found = foreign_method(scored(tmp_path, names, [0.1] * len(names)), [pairs], num_resamples=50, seed=0)
    assert isinstance(found, Absent) and "60 of 60 images is not known" in found.reason


def test_rows_of_other_images_are_left_out_and_counted(tmp_path: Path, known: Method) -> None:
    paths = ["val/NORMAL/other.jpeg", *known.paths]
    method = as_method(scored(tmp_path, paths, [99.0, *np.linspace(-2, 2, len(known))]), [known])
    assert len(method) == len(known)
    assert f"1 of its {len(paths)} rows are of other images and left out" in method.notes


def test_targets_of_the_file_are_believed_more_than_those_of_a_run(tmp_path: Path, known: Method) -> None:
    turned = [str(1 - int(target)) for target in known.targets]
    method = as_method(scored(tmp_path, known.paths.tolist(), [0.5] * len(known), turned), [known])
    assert method.targets.tolist() == turned


def test_a_file_with_fewer_images_than_the_run_stands_on_its_own_rows(tmp_path: Path, known: Method) -> None:
    some = known.paths[:-2].tolist()
    method = as_method(scored(tmp_path, some, np.linspace(0, 1, len(some)).tolist()), [known])
    assert method.paths.tolist() == some
    assert method.targets.tolist() == known.targets[:-2].tolist()
    assert any("targets that the file does not give" in note for note in method.notes)


def test_images_of_unknown_target_make_the_file_absent_with_the_way_out(tmp_path: Path, known: Method) -> None:
    found = foreign_method(scored(tmp_path, ["x.png", "y.png"], [0.1, 0.2]), [known], num_resamples=50, seed=0)
    assert isinstance(found, Absent) and found.name == "other"
    assert found.reason == (
        "the target of 2 of 2 images is not known, the first x.png; give a column target (1 is pneumonia), or paths "
        "that the runs have"
    )


def test_the_predictions_of_a_run_give_its_own_numbers(four_runs: list[RunDir], known: Method) -> None:
    (one,) = read_scores(four_runs[0].predictions_file("test"))
    method = as_method(one, [known])
    assert method.metrics["ranking"]["auroc"] == pytest.approx(known.metrics["ranking"]["auroc"], abs=1e-12)
    assert method.targets.tolist() == known.targets.tolist()


# Probabilities and log odds.


def test_probabilities_are_called_from_one_half_on_and_log_odds_from_0_on(tmp_path: Path) -> None:
    probs = as_method(scored(tmp_path, FILMS, [0.5, 0.49, 1.0, 0.0, 0.51]))
    assert probs.decisions.tolist() == ["1", "0", "1", "0", "1"]
    assert probs.notes[0].endswith("taken for probabilities: called pneumonia from 0.5 on")
    odds = as_method(scored(tmp_path, FILMS, [0.0, -0.01, 7.0, -7.0, 0.49]))
    assert odds.decisions.tolist() == ["1", "0", "1", "0", "1"]
    assert odds.notes[0].endswith("taken for log odds: called pneumonia from 0 on")


def test_probabilities_of_0_and_1_and_next_to_them_keep_their_order(tmp_path: Path) -> None:
    values = [1.0, 1 - 2.0**-53, 5e-324, 0.0, 1e-300]
    method = as_method(scored(tmp_path, FILMS, values))
    assert method.scores is not None and method.scores.tolist() == values
    logits = to_predictions(scored(tmp_path, FILMS, values)).scores
    assert np.isfinite(logits).all() and logits[0] >= logits[1] > logits[4] > logits[2] >= logits[3]


# By itself.


def test_targets_patients_and_causes_are_read_from_the_names_of_the_images(tmp_path: Path) -> None:
    predictions = to_predictions(scored(tmp_path, FILMS, [0.9, 0.8, 0.7, 0.2, 0.1]))
    assert predictions.targets.tolist() == [1, 1, 1, 0, 0]
    assert predictions.causes.tolist() == ["bacteria", "bacteria", "virus", "", ""]
    first, second, *others = predictions.patient_ids
    assert first == second and len({first, *others}) == 4


def test_a_folder_says_the_target_where_the_name_says_nothing(tmp_path: Path) -> None:
    predictions = to_predictions(
        scored(tmp_path, ["normal/1.png", "x/Pneumonia/2.png", "virus/3.png"], [0.1, 0.2, 0.3])
    )
    assert predictions.targets.tolist() == [0, 1, 1]


@pytest.mark.parametrize("above", ["/home/me/pneumonia/", "bacteria/virus/", "", "normal/", "a//", "/"])
def test_what_folders_above_the_set_are_called_does_not_matter(tmp_path: Path, above: str) -> None:
    names = ("test/NORMAL/IM-0001-0001.jpeg", "NORMAL/1.png", "all/IM-0009-0001.jpeg", "test/PNEUMONIA/2.png")
    predictions = to_predictions(scored(tmp_path, [above + name for name in names], [0.1, 0.2, 0.3, 0.9]))
    assert predictions.targets.tolist() == [0, 0, 0, 1]


def test_a_probability_of_0_does_not_decide_the_calibration(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    targets = rng.integers(2, size=400)
    probs = np.round(1 / (1 + np.exp(-(rng.normal(size=400) + 2.0 * targets - 1))), 3)
    probs[np.flatnonzero(targets)[0]] = 0.0
    paths = [f"{i}.png" for i in range(400)]
    predictions = to_predictions(scored(tmp_path, paths, probs.tolist(), [str(t) for t in targets]))
    assert predictions.scores.min() == pytest.approx(-36.74, abs=0.01)  # as far from one half as a probability of 1
    assert summarise(predictions, None, [], num_resamples=20)["calibration"]["as_trained"]["slope"] > 0.1


def test_nothing_is_told_of_a_threshold_at_another_class_mix_than_the_unknown_one_of_training(tmp_path: Path) -> None:
    predictions = to_predictions(scored(tmp_path, FILMS, [0.9, 0.8, 0.4, 0.2, 0.6]))
    folder = EvaluationDir(tmp_path / "theirs")
    metrics = report_foreign(folder, predictions, title="theirs", context={})
    for row in metrics["prevalences"]["half"]:
        assert row["ppv"] is not None and row["net_benefit"] is None and row["threshold_probability"] is None
    assert metrics["rules"]["half"]["threshold"] == 0.5  # of the file's own probability


def test_a_file_by_itself_without_targets_or_with_one_class_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ValueError, match=r"target of 1 of 2 images is not known, the first 1\.png; give a column target"
    ):
        to_predictions(scored(tmp_path, ["NORMAL/0.png", "1.png"], [0.1, 0.2]))
    with pytest.raises(ValueError, match=r"all 2 images are PNEUMONIA; both classes are needed"):
        to_predictions(scored(tmp_path, ["0.png", "1.png"], [0.1, 0.2], ["1", "true"]))
