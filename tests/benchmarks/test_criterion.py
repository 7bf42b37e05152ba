"""What the study of validation sets says of curves whose answer is known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from benchmarks.criterion import criteria, findings, read_curves, summary
from pneumolit.rundir import DONE, RunDir

Curve = dict[str, np.ndarray]


def curve(**columns: list[float]) -> Curve:
    """Columns `block__auroc` and so on; sets that are not named stay at one half."""
    known = {name.replace("__", "/"): np.array(values) for name, values in columns.items()}
    length = len(next(iter(known.values())))
    metrics = ("auroc", "balanced_accuracy", "loss")
    names = [f"{s}/{m}" for s in ("val", "stress", "block", "block2") for m in metrics]
    return {name: known.get(name, np.full(length, 0.5)) for name in names}


# The first block knows the second's best epoch and run; plain validation prefers the opposite.
GOOD = curve(block__auroc=[0.8, 0.9, 0.85], block2__auroc=[0.82, 0.95, 0.9], val__auroc=[0.99, 0.98, 0.97])
POOR = curve(block__auroc=[0.7, 0.8, 0.75], block2__auroc=[0.6, 0.8, 0.7], val__auroc=[0.99, 0.985, 0.98])


def test_a_criterion_that_knows_the_stand_in_loses_nothing() -> None:
    found = findings("block auroc", [GOOD, POOR], "auroc", "block")
    assert found.epoch_losses.tolist() == [0.0, 0.0]
    assert found.rank(np.arange(2)[None]) == pytest.approx(1.0)
    assert found.recipe_loss(np.arange(2)[None]) == 0.0


def test_a_criterion_that_is_misled_loses_what_it_gives_away() -> None:
    found = findings("val auroc", [GOOD, POOR], "auroc", "block")
    assert found.epoch_losses == pytest.approx([0.95 - 0.82, 0.8 - 0.6])
    assert found.rank(np.arange(2)[None]) == pytest.approx(-1.0)
    assert found.recipe_loss(np.arange(2)[None]) == pytest.approx(0.9 - 0.7)


def test_the_last_epoch_and_a_loss_choose_no_recipe() -> None:
    assert findings("last epoch", [GOOD, POOR], "auroc", "block").epoch_losses == pytest.approx([0.05, 0.1])
    low = curve(block__loss=[0.3, 0.1, 0.2], block2__auroc=[0.7, 0.9, 0.8])
    found = findings("block loss", [low, low], "auroc", "block")
    assert found.values is None and found.epoch_losses.tolist() == [0.0, 0.0]


def test_both_blocks_take_their_turn_as_stand_in() -> None:
    curves = [
        curve(block__auroc=[0.9, 0.8, 0.7], block2__auroc=[0.5, 0.8, 0.6], val__auroc=[0.1, 0.1, 0.1]),
        curve(block__auroc=[0.6, 0.7, 0.65], block2__auroc=[0.6, 0.9, 0.7], val__auroc=[0.2, 0.2, 0.2]),
        curve(block__auroc=[0.5, 0.6, 0.55], block2__auroc=[0.7, 0.5, 0.4], val__auroc=[0.3, 0.3, 0.3]),
    ]
    # By the first block .3, 0 and .2 of the second are lost, by the second .1, 0 and .1 of the first.
    error = np.std([0.2, 0.0, 0.15], ddof=1) / 3**0.5
    assert summary("block auroc", curves, "auroc")["epoch_loss"] == pytest.approx([0.35 / 3, error], abs=1e-6)
    # Plain validation ranks the runs as neither block does: correlations -.5 (second) and -1 (first).
    found = summary("val auroc", curves, "auroc")
    assert found["rank"] is not None and found["rank"][0] == pytest.approx(-0.75)
    assert found["recipe_loss"] is not None and found["recipe_loss"][0] == pytest.approx((0.3 + 0.15) / 2)
    assert all(summary(name, curves, "auroc")["epoch_loss"] for name in criteria())


def test_only_finished_runs_with_two_blocks_and_stress_are_read(tmp_path: Path) -> None:
    both = ("block", "block2", "stress")
    for name, state, sets in (("a", DONE, both), ("b", "failed", both), ("c", DONE, both[::2]), ("d", DONE, both[:2])):
        run = RunDir(tmp_path / name)
        run.write_status(state)
        run.append_metrics({"epoch": 1, **{f"{one}/auroc": 0.9 for one in sets}})
    assert len(read_curves(tmp_path)) == 1
