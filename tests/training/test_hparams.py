"""TensorBoard's table of runs: the same columns in every run, or it loses runs."""

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


def test_two_runs_of_different_choices_have_the_same_columns_and_metrics(small_run: Path, other_run: Path) -> None:
    first, second = columns_of(small_run), columns_of(other_run)
    assert set(first) == set(second) >= {"backbone", "optim.lr", "freeze.policy", "callbacks.ema.decay"}
    assert first["freeze.policy"].string_value == "none"
    assert second["freeze.policy"].string_value == "head"
    metrics = [{t for t in events_of(run).Tags()["scalars"] if t.startswith("hp/")} for run in (small_run, other_run)]
    assert metrics[0] == metrics[1] != set()


def test_final_numbers_in_the_table_are_those_of_the_report(small_run: Path) -> None:
    test = read_json(small_run / "evaluation" / "test" / "metrics.json")
    logged = events_of(small_run).Scalars("hp/test_auroc")[-1].value
    assert logged == pytest.approx(test["ranking"]["auroc"])


def test_epoch_scalars_and_pictures_reach_the_event_file(small_run: Path) -> None:
    tags = events_of(small_run).Tags()
    assert {"train/loss", "val/auroc", "stress/auroc", "schedule/lr"} <= set(tags["scalars"])
    assert {"images/augmented_batch", "images/val_confusion"} <= set(tags["images"])


def test_no_value_is_null_whatever_was_chosen(tiny_config: Callable[..., dict[str, Any]]) -> None:
    for overrides in ((), ("callbacks.ema.decay=null", "optim=sgd", "augment=none")):
        values = table_hparams(tiny_config(*overrides))
        assert all(type(v) in (str, int, float, bool) for v in values.values())


def test_sets_that_were_not_scored_have_a_number_that_is_none() -> None:
    assert set(final_metrics({}).values()) == {-1.0}
