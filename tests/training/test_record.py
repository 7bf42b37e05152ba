"""The record of a run: what it was begun with must still hold when it begins again."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from pneumolit.model.weights import WeightsSource
from pneumolit.rundir import RUNNING, RunDir, read_json, write_json
from pneumolit.training import environment, record
from pneumolit.training.record import note_resumption, refuse_other_teacher, refuse_other_weights, teacher_hash

PACKAGE = WeightsSource("package", "net.in1k", "net_model", sha256="a1")
RANDOM = WeightsSource("none", "net")


def begun_with(source: WeightsSource, folder: Path) -> RunDir:
    run = RunDir(folder)
    write_json(run.environment_file, {"weights": source.to_dict()})
    return run


@pytest.mark.parametrize("source", [PACKAGE, RANDOM])
def test_run_begins_again_from_the_same_weights_wherever_they_lie_now(source: WeightsSource, tmp_path: Path) -> None:
    run = begun_with(source, tmp_path)
    refuse_other_weights(run, source)
    refuse_other_weights(run, WeightsSource("file", "net", "copied.pth", sha256=source.sha256))


@pytest.mark.parametrize(
    ("before", "now", "named"),
    [
        (PACKAGE, WeightsSource("package", "net.in1k", "net_model", sha256="b2"), "net_model"),
        (PACKAGE, RANDOM, "net_model"),
        (RANDOM, PACKAGE, "random ones"),
    ],
)
def test_run_begins_again_from_no_other_weights(
    before: WeightsSource, now: WeightsSource, named: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=rf"began with other weights \({named}\); give their file by model\.weights"):
        refuse_other_weights(begun_with(before, tmp_path), now)


def test_a_run_goes_on_with_the_teacher_that_it_began_with_and_no_other(tmp_path: Path) -> None:
    def taught(*scores: float) -> Any:
        return SimpleNamespace(teacher=np.array(scores, dtype=np.float32) if scores else None)

    run = RunDir(tmp_path)
    for began, others in ((taught(1.0, 2.0), (taught(1.0, 2.5), taught())), (taught(), (taught(1.0),))):
        write_json(run.data_file, {"teacher": teacher_hash(began)})
        refuse_other_teacher(run, began)
        for other in others:
            with pytest.raises(ValueError, match="the teacher's scores are not those that the run in"):
                refuse_other_teacher(run, other)
    write_json(run.data_file, {})  # of a run from before there were teachers
    refuse_other_teacher(run, taught())


def test_a_run_counts_as_that_of_the_code_that_went_on_with_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run = RunDir(tmp_path)
    write_json(run.environment_file, {"weights": {}})
    for code, changed in (("a" * 16, None), ("a" * 16, None), ("b" * 16, "b" * 16)):
        monkeypatch.setattr(record, "source_hash", lambda code=code: code)
        if not run.status_file.is_file():
            run.write_status(RUNNING, code=code)
            continue
        note_resumption(run, 1)
        assert read_json(run.status_file)["code"] == code
        assert read_json(run.environment_file)["resumed"][-1]["changed"].get("code") == changed


def test_a_process_records_the_code_that_it_imported_whatever_becomes_of_the_files(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = environment.source_hash()
    monkeypatch.setattr(environment, "_DECIDING", ("data",))  # as if the files had changed
    assert environment.source_hash() == before
    assert environment.source_hash.__wrapped__() != before
