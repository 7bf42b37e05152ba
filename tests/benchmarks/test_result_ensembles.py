"""Ensembles in the result table: which are taken, under which name, and by which decisions."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path

import pytest
import yaml

from benchmarks._results.ensembles import members_of, row_of_ensemble
from benchmarks._results.page import results_page
from benchmarks._results.records import read_record, write_record
from benchmarks._results.rows import estimates_of, make_rows
from pneumolit.comparison import ensemble_folder
from pneumolit.comparison.ensemble import MEAN, build_ensemble, read_members
from pneumolit.comparison.ensemble_folder import save_ensemble
from pneumolit.config import configuration_hash, filled
from pneumolit.rundir import RunDir, read_json, read_looks, read_yaml, record_look, write_json
from tests.comparison import made_runs


@pytest.fixture
def folds(tmp_path: Path) -> list[RunDir]:
    """Two folds of one seed of a sweep."""
    runs = []
    for fold in range(2):
        run = made_runs.write_run(
            tmp_path / "out" / "sweeps" / "folds" / f"fold{fold}",
            draw=fold, only=range(40 * fold, 40 * fold + 40), sets={"val": 40, "block": 30, "test": 60},
            settings={"seed": 1}, data={"folds": 2, "fold": fold, "patient_key": "full"},
        )  # fmt: skip
        record_look(tmp_path / "out", run=run.path.as_posix(), configuration="c", test_set="t" * 16, purpose="a test")
        write_json(run.status_file, {**read_json(run.status_file), "configuration": "c" * 12, "code": "d" * 16})
        write_json(run.environment_file, {**read_json(run.environment_file), "threads": 1})
        runs.append(run)
    return runs


@pytest.fixture
def ensemble(folds: list[RunDir], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunDir:
    monkeypatch.setattr(ensemble_folder, "draw_evaluation", lambda *_: None)
    run = RunDir(tmp_path / "out" / "ensembles" / "best_ensemble_1")
    save_ensemble(build_ensemble(read_members(folds, ["a", "b"]), MEAN), run)
    return run


@pytest.fixture
def sweeps(tmp_path: Path) -> Path:
    """A folder with two sweeps that make ensembles, and one that does not."""
    folder = tmp_path / "sweep"
    folder.mkdir()
    for name, experiment in (("best_ensemble", "best"), ("a_ensemble", "a"), ("grid", "best")):
        content = {"hydra": {"sweeper": {"params": {"experiment": experiment}}}}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return folder


def hash_now(runs: Sequence[RunDir], *choices: str) -> str:
    """What `best_ensemble` decides is what the runs have; any other sweep decides something else."""
    experiment, sweep, fold = choices
    own = configuration_hash(filled(read_yaml(runs[int(fold.partition("=")[2])].config_file)))
    return own if (experiment, sweep) == ("experiment=best", "sweep=best_ensemble") else "another"


def test_every_fold_of_a_seed_of_a_sweep_makes_a_row_by_the_sweep_s_name_with_the_work_of_all_members(
    ensemble: RunDir, folds: list[RunDir], sweeps: Path, tmp_path: Path
) -> None:
    assert row_of_ensemble(ensemble, functools.partial(hash_now, folds), sweeps) == "best_ensemble"
    assert [member.path.name for member in members_of(ensemble)] == ["fold0", "fold1"]
    record = read_record(write_record("best_ensemble", ensemble, tmp_path / "runs"))
    assert (record.seed, record.metrics["members"], record.metrics["seconds"]) == (1, 2, 200)
    looks = read_looks(tmp_path / "out")  # one of each member and the ensemble's own
    assert len(looks) == 3 and len(record.metrics["looks"]) == 3
    assert "sweep=best_ensemble seed=1" in record.metrics["command"] and set(record.scored) == {"block", "test"}
    own = read_json(ensemble.evaluation_metrics_file("test"))
    assert record.metrics["sets"]["test"]["auroc"][0] == pytest.approx(own["ranking"]["auroc"], abs=1e-5)


def test_an_ensemble_that_lacks_a_fold_or_mixes_seeds_is_no_row(
    ensemble: RunDir, folds: list[RunDir], sweeps: Path
) -> None:
    config = read_yaml(folds[1].config_file)
    folds[1].config_file.write_text(yaml.safe_dump({**config, "seed": 2}))
    with pytest.raises(ValueError, match=r"needs every fold of one seed, got seeds \[1, 2\]"):
        row_of_ensemble(ensemble, functools.partial(hash_now, folds), sweeps)
    folds[1].config_file.write_text(yaml.safe_dump({**config, "data": {**config["data"], "fold": 0}}))
    with pytest.raises(ValueError, match=r"folds \[0, 0\]"):
        row_of_ensemble(ensemble, functools.partial(hash_now, folds), sweeps)


def test_an_ensemble_of_an_earlier_recipe_is_no_row(ensemble: RunDir, sweeps: Path) -> None:
    with pytest.raises(ValueError, match=r"no runs of a_ensemble or best_ensemble as that stands now; run it again"):
        row_of_ensemble(ensemble, lambda *_: "another", sweeps)


def test_own_recipes_are_judged_by_the_primary_rule_and_rows_of_studies_by_the_largest_logit(
    folds: list[RunDir], tmp_path: Path
) -> None:
    rules = read_json(folds[0].evaluation_metrics_file("test"))["rules"]
    assert rules["primary"]["specificity"] != rules["argmax"]["specificity"]
    for row, rule in (("best", "primary"), ("study_a/two_layer_cnn", "argmax")):
        records = [read_record(write_record(row, run, tmp_path / "runs" / str(run.path.name))) for run in folds]
        for key in ("accuracy", "specificity", "sensitivity"):
            alone = estimates_of(records[:1])[key][0]
            assert alone == pytest.approx(rules[rule][key], abs=1e-5), (row, key)
        every = [read_json(run.evaluation_metrics_file("test"))["rules"][rule]["specificity"] for run in folds]
        assert estimates_of(records)["specificity"][0] == pytest.approx(sum(every) / 2, abs=1e-5)


def test_a_pair_is_compared_by_the_rule_of_each(folds: list[RunDir], tmp_path: Path) -> None:
    own, other = (
        make_rows([read_record(write_record(row, run, tmp_path / "runs"))])[0]
        for row, run in zip(("best", "study_a/two_layer_cnn"), folds, strict=True)
    )
    page = results_page([own, other], {}, "", "best")
    shown = page[page.index("## `best` against every row") :]
    rows = [line for line in shown.splitlines() if line.startswith("| `study_a/two_layer_cnn`")]
    is_telling = False
    for line, name in zip(rows, ("block", "test"), strict=True):
        rules = [read_json(run.evaluation_metrics_file(name))["rules"] for run in folds]
        difference = rules[0]["primary"]["accuracy"] - rules[1]["argmax"]["accuracy"]
        assert line.split("|")[2].strip() == f"{difference:+.3f}"
        is_telling |= rules[0]["primary"]["accuracy"] != rules[0]["argmax"]["accuracy"]
    assert is_telling
