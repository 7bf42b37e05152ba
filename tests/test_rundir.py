"""The run folder: files are whole or not there, epochs stand once, no look at the test set is lost."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pneumolit.labels import LabelSet
from pneumolit.predictions import Predictions
from pneumolit.rundir import (
    LEDGER_NAME,
    RunDir,
    fingerprint,
    read_json,
    read_looks,
    read_split_csv,
    read_yaml,
    record_look,
    shortest,
    write_json,
    write_text,
    write_yaml,
)
from tests.conftest import let_go


def in_another_process(code: str, *arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", code, *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


def look(folder: Path, configuration: str = "c", test_set: str = "t", purpose: str = "report") -> tuple[int, int]:
    return record_look(folder, run="r", configuration=configuration, test_set=test_set, purpose=purpose)


# Writing whole files


def test_a_process_that_dies_while_writing_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "status.json"
    write_text(path, "old")
    code = (
        "import os, sys; from pathlib import Path; from pneumolit.rundir import write_text\n"
        "os.fsync = lambda handle: os._exit(9)\n"  # written, not yet in place
        "write_text(Path(sys.argv[1]), 'new')"
    )
    assert in_another_process(code, str(path)).wait() == 9
    assert path.read_text() == "old"


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    write_json(run.status_file, {"state": "running"})
    with pytest.raises(ValueError, match="JSON"):  # other readers of JSON do not take NaN
        write_json(run.status_file, {"loss": math.nan})
    with pytest.raises(UnicodeEncodeError):
        write_text(run.status_file, "\ud800")  # cannot be encoded, found out only while writing
    assert read_json(run.status_file) == {"state": "running"}
    assert [p.name for p in tmp_path.iterdir()] == ["status.json"]


def test_a_reader_never_sees_half_a_file(tmp_path: Path) -> None:
    path, texts = tmp_path / "deep" / "file.txt", ("a" * 200_000, "b" * 200_000)
    write_text(path, texts[0])

    def write() -> None:
        for i in range(60):
            write_text(path, texts[i % 2])

    writer = Thread(target=write)
    writer.start()
    seen = set()
    while writer.is_alive():
        seen.add(path.read_text())
    writer.join()
    assert seen <= set(texts)


def test_letters_and_line_ends_are_written_as_given(tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    write_text(path, "Lücke\r\n胸\n")
    assert path.read_bytes() == "Lücke\r\n胸\n".encode()


# What a run folder is


def test_a_path_that_is_no_run_is_refused_with_what_was_found(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"run_dir=.* is not a folder"):
        RunDir.open(tmp_path / "nowhere")
    with pytest.raises(FileNotFoundError, match="run_dir is empty"):
        RunDir.open("")
    (tmp_path / "notes.txt").touch()
    with pytest.raises(FileNotFoundError, match=r"holds no run.*config\.yaml.*found notes\.txt"):
        RunDir.open(tmp_path)


# The settings that every run has.
SETTINGS = """\
backbone: resnet18
precision: auto
model: {image_size: 64}
data: {source: demo, store_size: 64}
callbacks: {checkpoint: {use: last}}
"""


def test_a_folder_with_config_and_status_is_a_run(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run")
    run.write_status("running")
    write_text(run.config_file, SETTINGS)
    assert RunDir.open(str(run.path)).path == run.path


def test_an_ensemble_is_taken_for_a_run_only_where_one_will_do(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "two")
    run.write_status("done")
    write_text(run.config_file, "ensemble: mean\n")
    write_text(run.ensemble_file, '{"ensemble": "mean", "validation": "own", "members": []}')
    assert RunDir.open(run.path, takes_ensembles=True).path == run.path
    with pytest.raises(ValueError, match=r"run_dir=.*two is an ensemble of runs.*ensemble\.json names them"):
        RunDir.open(run.path)


def test_every_file_of_an_evaluated_set_lies_in_its_own_folder(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    one, other = run.evaluation("test"), run.evaluation("ward7")
    files = [[at.predictions_file, at.metrics_file, at.report_file, at.errors_file] for at in (one, other)]
    assert len({*files[0], *files[1]}) == 8
    assert {file.parent for file in files[0]} == {tmp_path / "evaluation" / "test"}
    assert run.predictions_file("test") == one.predictions_file
    assert run.evaluation_metrics_file("test") == one.metrics_file
    assert run.evaluation_report_file("test") == one.report_file


def test_a_new_status_keeps_what_was_known(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.write_status("running", code="abc", epoch=1)
    run.write_status("failed", reason="out of memory", epoch=2)
    expected = {"state": "failed", "code": "abc", "epoch": 2, "reason": "out of memory"}
    assert {k: v for k, v in read_json(run.status_file).items() if k != "time"} == expected


def test_scores_of_older_weights_are_forgotten_and_nothing_else(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    kept = [run.config_file, run.status_file, run.metrics_file, run.split_file, run.checkpoint("last"), run.page_file]
    scores = [run.calibration_file, run.evaluation_metrics_file("val"), run.predictions_file("ward 7")]
    scores.append(run.explanation("val").checks_file)  # heat maps of the older weights
    for path in (*kept, *scores):
        write_text(path, "x")
    run.forget_scores()
    assert all(path.is_file() for path in kept)
    assert not any(path.exists() for path in (*scores, run.path / "evaluation", run.path / "explanation"))
    run.forget_scores()  # a run that has none


# metrics.csv


@given(st.lists(st.tuples(st.integers(0, 4), st.floats(allow_infinity=False, allow_nan=False)), max_size=12))
@settings(max_examples=20, deadline=None)
def test_every_epoch_stands_once_with_its_last_value(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, float]]
) -> None:
    run = RunDir(tmp_path_factory.mktemp("run"))
    for epoch, loss in rows:
        run.append_metrics({"epoch": epoch, "val/loss": loss})
    found = [(int(r["epoch"]), r["val/loss"]) for r in run.read_metrics()]
    assert sorted(found) == sorted(dict(rows).items())


def test_a_metric_that_begins_later_is_absent_from_the_epochs_before(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert run.read_metrics() == []
    run.append_metrics({"epoch": 0, "val/loss": 0.0})
    run.append_metrics({"epoch": 1, "val/loss": 0.5, "block/auroc": math.nan})
    first, second = run.read_metrics()
    assert first == {"epoch": 0, "val/loss": 0.0}
    assert math.isnan(second["block/auroc"])


# split.csv and predictions.csv


def test_a_split_comes_back_in_order_with_any_file_name(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    names = ["b,1.jpeg", "a.jpeg", "Röntgen.jpeg", os.fsdecode(b"caf\xe9.jpeg")]
    rest = dict.fromkeys(("label", "patient_id", "cause", "series"), "x")
    run.write_split([{"path": n, "split": "train", **rest, "is_copy": 0} for n in names])
    assert list(run.read_split()) == [{"path": n, "split": "train", **rest, "is_copy": "0"} for n in names]


@pytest.mark.parametrize("text", ["", "path,split\n", "path,side\na.jpeg,train\n"])
def test_a_split_file_without_its_columns_or_rows_is_refused(tmp_path: Path, text: str) -> None:
    path = tmp_path / "split.csv"
    with pytest.raises(FileNotFoundError, match=r"split\.csv is not a file"):
        list(read_split_csv(path))
    path.write_text(text)
    with pytest.raises(ValueError, match="must have the columns path and split"):
        list(read_split_csv(path))


@pytest.mark.parametrize("row", ["b.jpeg", 'b.jpeg,"v\0al"', "b.jpeg, of ward 7,val"])
def test_a_row_of_a_split_file_that_is_cut_off_or_too_long_is_refused_with_its_line(tmp_path: Path, row: str) -> None:
    path = tmp_path / "split.csv"
    path.write_text(f"path,split\na.jpeg,train\n{row}\n")
    with pytest.raises(ValueError, match=r"split\.csv, line 3: a row with a text for every column"):
        list(read_split_csv(path))


def table(labels: LabelSet, paths: Sequence[str], prior: float) -> Predictions:
    logits = np.random.default_rng(0).normal(size=(len(paths), labels.num_classes)).astype(np.float32)
    targets = np.arange(len(paths)) % labels.num_classes
    return Predictions(labels, np.array(paths, dtype=object), np.array(paths), targets, logits.astype(float), prior)


def test_predictions_come_back_with_the_classes_and_the_prior_of_the_run(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    labels = LabelSet(("NORMAL", "BACTERIA", "VIRUS"), ("BACTERIA", "VIRUS"))
    before = table(labels, ["a.jpeg", os.fsdecode(b"caf\xe9.jpeg")], 0.75)
    write_json(run.data_file, {"positive": list(labels.positive), "prior_log_odds": 0.75})
    run.write_predictions("test", before)
    after = run.read_predictions("test")
    assert after.labels == labels
    assert after.paths.tolist() == before.paths.tolist()
    np.testing.assert_allclose(after.scores, before.scores, rtol=1e-7)


def test_a_set_with_its_own_positive_classes_is_read_with_those(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    labels = LabelSet(("NORMAL", "PNEUMONIA"), ("PNEUMONIA",))
    write_json(run.data_file, {"positive": ["BACTERIA", "VIRUS"], "prior_log_odds": 0.0})
    write_json(run.evaluation_metrics_file("ward7"), {"positive": ["PNEUMONIA"]})
    run.write_predictions("ward7", table(labels, ["a", "b"], 0.0))
    assert run.read_predictions("ward7").labels == labels


# The ledger of test looks


def test_looks_are_counted_by_test_set_and_by_configuration(tmp_path: Path) -> None:
    assert look(tmp_path, "a") == (1, 1)
    assert look(tmp_path, "a") == (2, 1)
    assert look(tmp_path, "b") == (3, 2)
    assert look(tmp_path, "a", test_set="other") == (1, 1)
    assert look(tmp_path, "a") == (4, 1)
    assert [entry["test_set"] for entry in read_looks(tmp_path)] == ["t", "t", "t", "other", "t"]


@pytest.fixture(scope="module")
def three_looks(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    folder = tmp_path_factory.mktemp("ledger")
    for i in range(3):
        look(folder, f"c{i}", purpose="Prüfung")
    return (folder / LEDGER_NAME).read_bytes()


@given(lost=st.integers(1, 150))
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_after_a_cut_off_last_line_no_other_look_is_lost(tmp_path: Path, three_looks: bytes, lost: int) -> None:
    last = len(three_looks.splitlines(keepends=True)[-1])
    (tmp_path / LEDGER_NAME).write_bytes(three_looks[: -min(lost, last)])
    whole = 3 if lost == 1 else 2  # only the line break is gone, or part of the line too
    assert len(read_looks(tmp_path)) == whole
    assert look(tmp_path, "new") == (whole + 1, whole + 1)
    assert look(tmp_path, "newer") == (whole + 2, whole + 2)


def test_a_ledger_cut_in_the_middle_of_a_letter_is_still_read(tmp_path: Path) -> None:
    look(tmp_path)
    with (tmp_path / LEDGER_NAME).open("ab") as handle:
        handle.write('{"run": "Lü'.encode()[:-1])
    assert len(read_looks(tmp_path)) == 1
    assert look(tmp_path) == (2, 1)


@pytest.mark.parametrize("purpose", ["two\nlines", "a\u2028b\x85c", "Größe", os.fsdecode(b"\xe9")])
def test_any_text_is_one_line_of_the_ledger(tmp_path: Path, purpose: str) -> None:
    look(tmp_path, purpose=purpose)
    assert look(tmp_path) == (2, 1)
    assert read_looks(tmp_path)[0]["purpose"] == purpose


def test_settings_that_share_a_list_are_read_as_they_were_written(tmp_path: Path) -> None:
    both = [0.1, 0.9]
    write_yaml(tmp_path / "config.yaml", {"zoom": both, "crop": {"scale": both}, "name": "a*b"})
    assert read_yaml(tmp_path / "config.yaml") == {"zoom": both, "crop": {"scale": both}, "name": "a*b"}


def test_two_processes_that_look_at_once_lose_no_look_and_share_no_number(tmp_path: Path) -> None:
    code = (
        "import json, sys; from pathlib import Path; from pneumolit.rundir import record_look\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "print(json.dumps([record_look(Path(sys.argv[1]), run='r', configuration=sys.argv[2], test_set='t', "
        "purpose='p')[0] for _ in range(20)]))"
    )
    processes = [in_another_process(code, str(tmp_path), name) for name in "ab"]
    let_go(processes)
    numbers = [n for process in processes for n in json.loads(process.communicate(timeout=60)[0])]
    assert sorted(numbers) == list(range(1, 41))
    assert len(read_looks(tmp_path)) == 40


def test_the_ledger_of_a_run_is_found_from_any_folder(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "outputs" / "train" / "2026-01-01" / "12-00-00")
    assert run.ledger_folder(Path("elsewhere")) == tmp_path / "outputs"
    assert RunDir(tmp_path / "mine").ledger_folder(Path("elsewhere")) == Path("elsewhere")
    (tmp_path / LEDGER_NAME).touch()
    assert RunDir(tmp_path / "mine").ledger_folder(Path("elsewhere")) == tmp_path


def test_a_fingerprint_tells_where_one_part_ends() -> None:
    assert fingerprint(["ab", "c"]) == fingerprint(iter(["ab", "c"]))
    assert len({fingerprint(parts) for parts in (["ab", "c"], ["a", "bc"], ["abc"], ["c", "ab"])}) == 4
    assert fingerprint([os.fsdecode(b"\xe9")])


def test_a_folder_is_named_from_here_and_the_one_one_stands_in_has_a_name_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert shortest(tmp_path / "runs" / "a") == Path("runs/a")
    assert shortest(Path()) == tmp_path and shortest(tmp_path.parent) == tmp_path.parent
