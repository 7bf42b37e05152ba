"""TensorBoard's table of runs: the same settings in every run, the metrics that it has."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pneumolit.rundir import read_json
from pneumolit.training.hparams import final_metrics, table_hparams


def events_of(run: Path) -> Any:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run / "tensorboard"), size_guidance={"images": 0}).Reload()


def columns_of(run: Path) -> dict[str, Any]:
    from tensorboard.plugins.hparams.plugin_data_pb2 import HParamsPluginData

    content = events_of(run).summary_metadata["_hparams_/session_start_info"].plugin_data.content
    return dict(HParamsPluginData.FromString(content).session_start_info.hparams)


def test_two_runs_of_different_choices_have_the_same_columns(small_run: Path, other_run: Path) -> None:
    first, second = columns_of(small_run), columns_of(other_run)
    assert set(first) == set(second) >= {"backbone", "optim.lr", "freeze.policy", "callbacks.ema.decay"}
    assert first["freeze.policy"].string_value == "none"
    assert second["freeze.policy"].string_value == "head"
    # One run's list of columns would be taken for all runs, and those of others would be missing.
    for run in (small_run, other_run):
        assert "_hparams_/experiment" not in events_of(run).summary_metadata


def test_final_numbers_in_the_table_are_those_of_the_report(small_run: Path) -> None:
    events = events_of(small_run)
    for split in ("val", "test"):
        metrics = read_json(small_run / "evaluation" / split / "metrics.json")
        primary = metrics["rules"]["primary"]
        for title, value in (
            ("AUROC", metrics["ranking"]["auroc"]),
            ("accuracy", primary["accuracy"]),
            ("balanced_accuracy", primary["balanced_accuracy"]),
        ):
            (point,) = events.Scalars(f"Result/{title}_{split}")
            assert point.value == pytest.approx(value)


def test_epoch_scalars_and_pictures_reach_the_event_file(small_run: Path) -> None:
    tags = events_of(small_run).Tags()
    assert {"train/loss", "val/auroc", "stress/auroc", "schedule/lr"} <= set(tags["scalars"])
    assert {"images/augmented_batch", "final/val_confusion", "final/val_errors"} <= set(tags["images"])


def test_no_value_is_null_whatever_was_chosen(tiny_config: Callable[..., dict[str, Any]]) -> None:
    for overrides in ((), ("callbacks.ema.decay=null", "optim=sgd", "augment=none")):
        values = table_hparams(tiny_config(*overrides))
        assert all(type(v) in (str, int, float, bool) for v in values.values())


def test_sets_that_were_not_scored_have_no_number() -> None:
    assert final_metrics({}) == {}
    assert final_metrics({"val": {"class_view": {"accuracy": 0.5}, "ranking": {"auroc": None}}}) == {
        "Result/accuracy_val": 0.5
    }


def test_every_block_has_its_numbers() -> None:
    results = {name: {"ranking": {"auroc": 0.9}} for name in ("val", "block", "block2", "block3", "test")}
    assert set(final_metrics(results)) == {f"Result/AUROC_{name}" for name in results}
