"""Stages: what each one starts from, trains and leaves; every option trains and resumes to the same bits."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from pneumolit.config import CONFIG_DIR
from pneumolit.data.datamodule import rows_of
from pneumolit.data.dataset import load_data
from pneumolit.model.classifier import PneumoniaClassifier, validation_numbers
from pneumolit.rundir import RunDir
from pneumolit.scoring import predict_logits
from pneumolit.training.checkpoints import EpochCheckpoints
from pneumolit.training.fit import fit

Configure = Callable[..., dict[str, Any]]
Cut = Callable[..., None]
Train = Callable[..., RunDir]
QUICK = ("data.stress=false", "logger=none", "trainer.limit_train_batches=2", "data.batch_size=8")


def saved(run: RunDir, name: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(run.checkpoint(name), weights_only=True)
    return content


def options(group: str) -> list[str]:
    return [f"{group}={file.stem}" for file in sorted((CONFIG_DIR / group).glob("*.yaml"))]


CHOICES = [
    *options("optim"), *options("scheduler"), *options("loss"), *options("augment"), *options("freeze"),
    *options("callbacks"),
    "optim.layer_decay=0.5 optim.backbone_lr_scale=0.1", "augment.cutmix_alpha=1.0 augment.mixup_alpha=0.2",
    "scheduler=plateau scheduler.patience=0 callbacks=early_stopping", "model.pool=flatten", "model.bn_inference=batch",
    "model.bn_inference=drawn_batch",
    "model.head=mlp model.hidden=8 model.drop_rate=0.5", "trainer.gradient_clip_val=0.1",
    "trainer.accumulate_grad_batches=2", "backbone=test_vit freeze=layers", "optim._target_=timm.optim.AdamP",
    "callbacks=swa callbacks.swa.start_fraction=0.5", "freeze=head augment=light trainer.feature_views=2",
    "freeze=head augment=none trainer.cache_features=true model.drop_rate=0.5 callbacks=swa",
    "freeze=groups augment=none trainer.cache_features=true model.drop_rate=0.5 callbacks=swa",
    "freeze=groups augment=light trainer.feature_views=2 model.bn_inference=batch",
]  # fmt: skip
# Options by themselves are slow tests but for one of each group.
TYPICAL = {"optim=adamw", "scheduler=cosine", "loss=focal", "augment=strong", "freeze=groups", "callbacks=swa"}
GROUPS = {choice.partition("=")[0] for choice in TYPICAL}


def choices() -> list[Any]:
    assert set(CHOICES) >= TYPICAL, "an option was renamed: its whole group would be slow"
    others = {c for c in CHOICES if " " not in c and c.partition("=")[0] in GROUPS} - TYPICAL
    return [pytest.param(choice, marks=pytest.mark.slow) if choice in others else choice for choice in CHOICES]


@pytest.mark.parametrize("choice", choices())
def test_every_option_trains_two_steps_and_resumes_to_the_same_bits(
    tiny_config: Configure,
    tmp_path: Path,
    cut_off_in: Cut,
    tensors_of: Callable[..., Any],
    choice: str,
    train_run: Train,
) -> None:
    overrides = choice.split()
    if any("plateau" in o for o in overrides) and "scheduler.patience=0" not in overrides:
        overrides.append("callbacks.early_stopping.patience=null")
    if any(o.startswith("freeze=layers") for o in overrides):
        overrides.append("freeze.last=9")
    overrides += ["data.balance=none"] if "loss=logit_adjusted" in overrides else []
    # The plateau schedule must cut while the run is cut: no epoch improves by this much.
    overrides += ["scheduler.threshold=10"] if "scheduler.patience=0" in overrides else []
    cfg = tiny_config(*QUICK, *overrides)
    straight = train_run(cfg, tmp_path / "straight")
    cut_off_in(1, batch=1)
    with pytest.raises(RuntimeError, match="cut off"):
        train_run(cfg, tmp_path / "cut")
    cut = train_run(cfg, tmp_path / "cut")
    expected, found = saved(straight, "last"), saved(cut, "last")
    assert expected["global_step"] >= 2
    assert expected["optimizer_states"][0]["param_groups"] == found["optimizer_states"][0]["param_groups"]
    expected, found = tensors_of(expected), tensors_of(found)
    assert expected.keys() == found.keys()
    assert [name for name in expected if not torch.equal(expected[name], found[name])] == []


@pytest.mark.parametrize("start", ["best", "last"])
def test_stage_starts_from_the_weights_that_it_names(
    tiny_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, start: str, train_run: Train
) -> None:
    # The first epoch of each stage is its best one.
    monkeypatch.setattr(EpochCheckpoints, "_is_better", lambda self, monitor, value: monitor not in self.best)
    cfg = tiny_config(
        *QUICK, "callbacks.ema.decay=null",
        "stages=[{epochs: 3}, "
        f"{{optim: sgd, lr: 1e-30, scheduler: constant, freeze: head, epochs: 1, start: {start}}}]",
    )  # fmt: skip
    run = train_run(cfg, tmp_path / "run")
    before = {which: saved(run, f"stage1_{which}")["state_dict"] for which in ("best", "last")}
    assert not all(torch.equal(before["best"][k], before["last"][k]) for k in before["best"])
    after = saved(run, "last")["state_dict"]
    assert all(torch.equal(after[k], v) for k, v in before[start].items())


def test_each_stage_has_its_own_optimizer_and_epochs_count_on(
    tiny_config: Configure, tmp_path: Path, train_run: Train
) -> None:
    cfg = tiny_config(*QUICK, "stages=[{freeze: head, epochs: 2}, {optim: sgd, epochs: 1, image_size: 48}]")
    run = train_run(cfg, tmp_path / "run")
    first, second = saved(run, "stage1_last"), saved(run, "last")
    assert "betas" in first["optimizer_states"][0]["param_groups"][0]
    assert "momentum" in second["optimizer_states"][0]["param_groups"][0]
    assert second["hyper_parameters"]["hparams"]["image_size"] == 48
    assert [(row["epoch"], row["step"], row["stage"]) for row in run.read_metrics()] == [
        (1, 2, 1),
        (2, 4, 1),
        (3, 6, 2),
    ]
    assert (second["stage"]["epochs"], second["stage"]["steps"], second["stage"]["is_over"]) == (3, 6, True)
    assert sorted(p.name for p in run.checkpoint_folder.iterdir()) == [
        "best.ckpt", "last.ckpt", "stage1_best.ckpt", "stage1_last.ckpt",
    ]  # fmt: skip


def test_frozen_part_keeps_its_bits_through_a_stage(tiny_config: Configure, tmp_path: Path, train_run: Train) -> None:
    run = train_run(
        tiny_config(*QUICK, "stages=[{freeze: none, epochs: 1}, {freeze: head, epochs: 2}]"), tmp_path / "run"
    )
    before, after = (saved(run, name) for name in ("stage1_best", "last"))
    changed = {k for k, v in after["state_dict"].items() if not torch.equal(v, before["state_dict"][k])}
    assert changed == {"backbone.fc.weight", "backbone.fc.bias"}


def test_stage_that_stops_early_hands_over_and_the_next_one_counts_on(
    tiny_config: Configure, tmp_path: Path, train_run: Train
) -> None:
    stop = "callbacks.early_stopping.patience: 1, callbacks.early_stopping.min_delta: 1.0"
    cfg = tiny_config(*QUICK, f"stages=[{{epochs: 6, {stop}}}, {{epochs: 2}}]")
    run = train_run(cfg, tmp_path / "run")
    assert [(row["epoch"], row["stage"]) for row in run.read_metrics()] == [(1, 1), (2, 1), (3, 2), (4, 2)]
    last = saved(run, "last")
    # Resuming a stage that had stopped early trains no further epoch of it.
    run.checkpoint("last").unlink()
    again = train_run(cfg, tmp_path / "run")
    assert [row["epoch"] for row in again.read_metrics()] == [1, 2, 3, 4]
    assert all(torch.equal(saved(again, "last")["state_dict"][k], v) for k, v in last["state_dict"].items())


def test_stage_goes_on_though_the_checkpoint_of_the_stage_before_is_gone(
    tiny_config: Configure, tmp_path: Path, cut_off_in: Cut, train_run: Train
) -> None:
    cfg = tiny_config(*QUICK, "stages=[{epochs: 2}, {epochs: 3}]")
    cut_off_in(3)
    with pytest.raises(RuntimeError, match="cut off"):
        train_run(cfg, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / "stage1_last.ckpt").unlink()
    assert [row["epoch"] for row in train_run(cfg, tmp_path / "run").read_metrics()] == [1, 2, 3, 4, 5]


def test_early_stop_is_told(tiny_config: Configure, tmp_path: Path, train_run: Train) -> None:
    told = io.StringIO()
    stop = ("callbacks=early_stopping", "callbacks.early_stopping.patience=1", "callbacks.early_stopping.min_delta=1.0")
    train_run(tiny_config(*QUICK, *stop, "trainer.max_epochs=5"), tmp_path / "run", told)
    assert "stopped early: val/auroc has not improved for 1 epoch (best" in told.getvalue()


def test_schedule_ends_with_its_stage_whatever_epochs_came_before(
    tiny_config: Configure, tmp_path: Path, train_run: Train
) -> None:
    run = train_run(tiny_config(*QUICK, "stages=[{epochs: 1}, {epochs: 2, lr: 0.5}]"), tmp_path / "run")
    rates = [row["lr"] for row in run.read_metrics()]  # means over two steps each of a cosine
    assert rates == pytest.approx([0.75e-3, 0.5 * (1 + 0.85355) / 2, 0.5 * (0.5 + 0.14645) / 2], rel=1e-3)


def test_further_monitors_keep_their_own_best_epoch(tiny_config: Configure, tmp_path: Path, train_run: Train) -> None:
    cfg = tiny_config(
        *QUICK, "callbacks.checkpoint.also=[val/loss,train/loss]", "trainer.max_epochs=4", "optim.lr=0.05"
    )
    run = train_run(cfg, tmp_path / "run")
    rows = run.read_metrics()
    for name, monitor in (("best", "val/auroc"), ("best_val_loss", "val/loss"), ("best_train_loss", "train/loss")):
        values = [row[monitor] for row in rows]
        wanted = max(values) if monitor == "val/auroc" else min(values)
        assert saved(run, name)["stage"]["epochs"] == values.index(wanted) + 1


class Memory:
    """A training step that fits up to so many images."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, images: int) -> None:
        whole = PneumoniaClassifier.forward
        self.sizes: list[int] = []

        def forward(model: PneumoniaClassifier, x: torch.Tensor) -> torch.Tensor:
            if model.training:
                self.sizes.append(len(x))
                if len(x) > images:
                    raise torch.OutOfMemoryError("CUDA out of memory.")
            return whole(model, x)

        monkeypatch.setattr(PneumoniaClassifier, "forward", forward)


def test_step_that_does_not_fit_says_which_batch_size_to_try(
    tiny_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_run: Train
) -> None:
    Memory(monkeypatch, 4)
    with pytest.raises(ValueError, match=r"data\.batch_size=4.*auto_batch_size=true"):
        train_run(tiny_config(*QUICK), tmp_path / "run")


def test_batches_that_fit_are_found_accumulated_recorded_and_kept_on_resuming(
    tiny_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, train_run: Train
) -> None:
    memory = Memory(monkeypatch, 2)
    cfg = tiny_config(*QUICK, "trainer.auto_batch_size=true", "trainer.limit_train_batches=8", "trainer.max_epochs=1")
    run = train_run(cfg, tmp_path / "run")
    assert memory.sizes[-8:] == [2] * 8
    assert saved(run, "last")["global_step"] == 2  # four batches of two make one step of eight
    assert '"batch_sizes"' in run.environment_file.read_text()
    run.checkpoint("last").unlink()
    Memory(monkeypatch, 1)  # on a smaller machine the recorded size would not fit: it is not searched for again
    with pytest.raises(ValueError, match=r"data\.batch_size=1"):
        train_run(cfg, tmp_path / "run")


def test_batch_statistics_at_inference_make_scores_depend_on_the_batch_and_training_still_collects(
    tiny_config: Configure, tmp_path: Path, train_run: Train
) -> None:
    cfg = tiny_config(*QUICK, "model.bn_inference=batch", "callbacks.ema.decay=null")
    run = train_run(cfg, tmp_path / "run")
    model = PneumoniaClassifier.from_checkpoint(run.checkpoint("last"))
    state = {k: v.clone() for k, v in model.state_dict().items()}
    images = torch.rand(6, 1, 32, 32)
    with torch.inference_mode():
        assert not torch.allclose(model(images)[:2], model(images[:2]), atol=1e-4)
    assert all(torch.equal(v, state[k]) for k, v in model.state_dict().items())  # nothing is collected while scoring
    steps = {int(v) for k, v in state.items() if k.endswith("num_batches_tracked")}
    assert steps == {4}  # two epochs of two batches: validation between them has not stopped the counting
    usual = PneumoniaClassifier.from_checkpoint(train_run(tiny_config(*QUICK), tmp_path / "usual").checkpoint("last"))
    with torch.inference_mode():
        torch.testing.assert_close(usual(images)[:2], usual(images[:2]), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("statistics", ["batch", "drawn_batch"])
def test_films_scored_by_their_batch_get_in_evaluation_what_their_epoch_was_judged_by(
    tiny_config: Configure, tmp_path: Path, statistics: str
) -> None:
    cfg = tiny_config(*QUICK, f"model.bn_inference={statistics}", "callbacks.ema.decay=null", "trainer.max_epochs=1")
    fit(cfg, tmp_path / "run", Console(quiet=True))
    run = RunDir(tmp_path / "run")
    found = run.read_predictions("val")
    numbers = validation_numbers(torch.from_numpy(found.logits).float(), torch.from_numpy(found.targets), found.labels)
    last = run.read_metrics()[-1]
    assert {key: last[f"val/{key}"] for key in numbers} == pytest.approx(numbers, abs=2e-6)  # six digits written
    if statistics == "batch":
        return
    data = load_data(cfg["data"], Path(cfg["cache_dir"]))
    model = PneumoniaClassifier.from_checkpoint(run.checkpoint("last"))
    model.settings["drawn_batch"] = 0
    assert abs(predict_logits(model, rows_of(data, "val")) - found.logits).max() > 1e-3  # as listed: others beside
