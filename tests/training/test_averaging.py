"""Averaged weights: the right average at the right time, exact on resuming, never in the way of training."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn
from torch.utils._python_dispatch import TorchDispatchMode

from pneumolit.data.dataset import load_data
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.training.averaging import AveragedWeights, EmaWeights, SwaWeights
from pneumolit.training.build import build_datamodule, build_model, check_names, quiet_lightning

Configure = Callable[..., dict[str, Any]]
State = dict[str, Tensor]

PLAIN = ("data.stress=false", "optim.lr=0.01")
AVERAGES: dict[str, Callable[[], AveragedWeights]] = {
    "ema": lambda: EmaWeights(0.6),
    "swa": lambda: SwaWeights(1),
}


class Recorder(Callback):
    """Weights after every batch, and those that validation sees, by epoch."""

    def __init__(self) -> None:
        self.batches: list[State] = []
        self.steps: list[int] = []
        self.validated: dict[int, State] = {}
        self.sanity: list[State] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        self.batches.append(copy_of(pl_module))
        self.steps.append(trainer.global_step)

    def on_validation_batch_start(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        if trainer.sanity_checking:
            self.sanity.append(copy_of(pl_module))
        else:
            self.validated[trainer.current_epoch] = copy_of(pl_module)

    def last_of_each(self, size: int) -> list[State]:
        """The weights at the end of every epoch of this many batches."""
        return self.batches[size - 1 :: size]


class ChangesTheStart(Callback):
    """Weights that are set after the averaged copy was made."""

    def on_fit_start(self, trainer: Any, pl_module: Any) -> None:
        for parameter in pl_module.parameters():
            parameter.data.mul_(1.1)
        self.start = copy_of(pl_module)


class StopsInValidation(Callback):
    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        raise ValueError("stopped in validation")


class SavesInValidation(Callback):
    def on_validation_batch_end(self, trainer: Any, pl_module: Any, *arguments: Any) -> None:
        trainer.save_checkpoint(Path(trainer.default_root_dir) / "mixed.ckpt")


class Watched(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Names of the operations that are run inside."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.names: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.add(func.name())
        return func(*args, **(kwargs or {}))


class WatchesEma(EmaWeights):
    """An average whose updates are watched."""

    def __init__(self) -> None:
        super().__init__(0.6)
        self.watched = Watched()

    def on_train_batch_end(self, *arguments: Any) -> None:
        with self.watched:
            super().on_train_batch_end(*arguments)


def copy_of(model: nn.Module) -> State:
    return {k: v.clone() for k, v in model.state_dict().items()}


def train(
    cfg: dict[str, Any], folder: Path, callbacks: Sequence[Callback], ckpt_path: Path | None = None, **options: Any
) -> tuple[Trainer, PneumoniaClassifier]:
    """A training that keeps the checkpoint of every epoch as `epoch=<n>.ckpt`."""
    datamodule = build_datamodule(cfg, load_data(cfg["data"], Path(cfg["cache_dir"])))
    model, _, _ = build_model(cfg, check_names(cfg), datamodule)
    kept = ModelCheckpoint(folder, filename="{epoch}", save_top_k=-1, save_on_train_epoch_end=True)
    with quiet_lightning():
        trainer = Trainer(
            **{"num_sanity_val_steps": 0, **options}, max_epochs=cfg["trainer"]["max_epochs"], accelerator="cpu",
            callbacks=[*callbacks, kept], logger=False, enable_progress_bar=False, enable_model_summary=False,
            use_distributed_sampler=False, default_root_dir=folder,
        )  # fmt: skip
        trainer.fit(model.use_channels_last(), datamodule=datamodule, ckpt_path=ckpt_path, weights_only=True)
    return trainer, model


def saved(folder: Path, epoch: int) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / f"epoch={epoch}.ckpt", weights_only=True)
    return content


def assert_same_bits(found: State, expected: State) -> None:
    assert found.keys() == expected.keys()
    assert not [name for name in found if not torch.equal(found[name], expected[name])]


def parameters_of(state: State, model: nn.Module) -> State:
    return {name: state[name] for name, _ in model.named_parameters()}


@pytest.mark.parametrize("accumulate", [1, 2])
def test_moving_average_equals_a_plain_loop_over_the_optimizer_steps(
    accumulate: int, tiny_config: Configure, tmp_path: Path
) -> None:
    recorder, average = Recorder(), EmaWeights(0.4)
    cfg = tiny_config(*PLAIN, "trainer.max_epochs=4")
    train(cfg, tmp_path, [average, recorder], accumulate_grad_batches=accumulate)
    is_step = [now > before for before, now in zip([0, *recorder.steps], recorder.steps, strict=False)]
    states = [state for state, is_one in zip(recorder.batches, is_step, strict=True) if is_one]
    assert len(states) > 4  # so that the decay reaches its final value
    assert all(is_step) == (accumulate == 1)
    expected = dict(states[0])
    for update, state in enumerate(states[1:], start=1):
        decay = min(0.4, (1 + update) / (10 + update))
        expected = {k: decay * expected[k] + (1 - decay) * v if v.is_floating_point() else v for k, v in state.items()}
    content = saved(tmp_path, 3)
    for name, value in expected.items():
        torch.testing.assert_close(content["state_dict"][name], value, rtol=1e-5, atol=1e-6)
    assert_same_bits(content["current_model_state"], recorder.batches[-1])
    assert content["averaging_state"]["n_averaged"] == len(states)
    assert content["callbacks"]["EmaWeights"]["latest_update_step"] == content["global_step"]


def test_stochastic_average_is_the_mean_of_the_ends_of_epochs_from_the_first_on(
    tiny_config: Configure, tmp_path: Path
) -> None:
    recorder = Recorder()
    trainer, model = train(tiny_config(*PLAIN, "trainer.max_epochs=5"), tmp_path, [SwaWeights(2), recorder])
    ends = recorder.last_of_each(int(trainer.num_training_batches))
    assert len(ends) == 5
    for epoch in range(5):
        content = saved(tmp_path, epoch)
        assert_same_bits(content["current_model_state"], ends[epoch])
        if epoch < 2:
            assert_same_bits(content["state_dict"], ends[epoch])
            continue
        for name, value in parameters_of(content["state_dict"], model).items():
            mean = torch.stack([end[name] for end in ends[2 : epoch + 1]]).mean(0)
            torch.testing.assert_close(value, mean, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("name", AVERAGES)
def test_validation_sees_the_weights_that_the_checkpoint_of_the_epoch_holds(
    name: str, tiny_config: Configure, tmp_path: Path
) -> None:
    recorder = Recorder()
    _, model = train(tiny_config(*PLAIN, "trainer.max_epochs=3"), tmp_path, [AVERAGES[name](), recorder])
    for epoch in range(3):
        assert_same_bits(recorder.validated[epoch], saved(tmp_path, epoch)["state_dict"])
    assert_same_bits(copy_of(model), saved(tmp_path, 2)["state_dict"])  # and training ends with them


def test_without_validation_an_epoch_enters_before_its_checkpoint(tiny_config: Configure, tmp_path: Path) -> None:
    cfg = tiny_config(*PLAIN, "trainer.max_epochs=3")
    train(cfg, tmp_path / "validated", [SwaWeights(1)])
    train(cfg, tmp_path / "not", [SwaWeights(1)], limit_val_batches=0)
    for epoch in range(3):
        assert_same_bits(
            saved(tmp_path / "not", epoch)["state_dict"], saved(tmp_path / "validated", epoch)["state_dict"]
        )


def test_validation_within_an_epoch_sees_only_whole_epochs(tiny_config: Configure, tmp_path: Path) -> None:
    recorder, average = Recorder(), SwaWeights(0)
    cfg = tiny_config(*PLAIN, "trainer.max_epochs=2", "data.batch_size=8")
    trainer, model = train(cfg, tmp_path, [average, recorder], val_check_interval=1)
    ends = recorder.last_of_each(int(trainer.num_training_batches))
    content = saved(tmp_path, 1)
    assert content["averaging_state"]["n_averaged"] == 2
    for name, value in parameters_of(content["state_dict"], model).items():
        torch.testing.assert_close(value, (ends[0][name] + ends[1][name]) / 2, rtol=1e-5, atol=1e-6)


def test_statistics_of_batch_norms_are_the_plain_mean_over_the_first_augmented_batches_of_the_epoch(
    tiny_config: Configure, tmp_path: Path
) -> None:
    cfg = tiny_config(*PLAIN, "trainer.max_epochs=2", "augment.mixup_alpha=0.4")
    trainer, _ = train(cfg, tmp_path, [SwaWeights(0)])
    model = PneumoniaClassifier.from_checkpoint(tmp_path / "epoch=1.ckpt")
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    rows = datamodule.rows_of("train")
    batches = [rows[index] for index in datamodule.train_sampler(1)][: int(trainer.num_training_batches)]
    images = [model.augment(b["image"], b["position"], epoch=1, size=32) for b in batches]
    assert len(images) > 1
    norms = [name for name, _ in model.named_buffers() if name.endswith(("running_mean", "running_var"))]
    found = copy_of(model)
    update_bn(images, model)
    expected = copy_of(model)
    assert norms
    for name in norms:
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-5)
        assert not torch.allclose(found[name], saved(tmp_path, 1)["current_model_state"][name], rtol=1e-3), name


@pytest.mark.parametrize("name", AVERAGES)
def test_frozen_weights_and_still_norms_are_bit_identical_in_the_average(
    name: str, tiny_config: Configure, tmp_path: Path
) -> None:
    cfg = tiny_config(*PLAIN, "trainer.max_epochs=3", "freeze=groups", "freeze.last=1")
    datamodule = build_datamodule(cfg, load_data(cfg["data"], Path(cfg["cache_dir"])))
    start, _, plan = build_model(cfg, check_names(cfg), datamodule)
    assert plan.frozen and plan.trainable and plan.still_norms and plan.moving_norms
    train(cfg, tmp_path, [AVERAGES[name]()])
    before, after = copy_of(start.backbone), saved(tmp_path, 2)["state_dict"]
    still = {*plan.frozen, *(k for k in before if k.rpartition(".")[0] in plan.still_norms)}
    moving = {*plan.trainable, *(k for k in before if k.rpartition(".")[0] in plan.moving_norms)}
    assert still | moving == set(before)
    assert not [k for k in still if not torch.equal(after[f"backbone.{k}"], before[k])]
    assert not [k for k in moving if torch.equal(after[f"backbone.{k}"], before[k])]


@pytest.mark.filterwarnings("ignore:The dirpath has changed")  # on purpose: the straight run's files are compared
@pytest.mark.parametrize(("name", "epoch"), [("ema", 1), ("swa", 0), ("swa", 1), ("swa", 2)])
def test_training_resumed_after_any_epoch_ends_with_the_same_bits(
    name: str, epoch: int, tiny_config: Configure, tmp_path: Path
) -> None:
    cfg = tiny_config(*PLAIN, "trainer.max_epochs=4", "model.drop_rate=0.3")
    options: dict[str, Any] = {"accumulate_grad_batches": 2}
    train(cfg, tmp_path / "straight", [AVERAGES[name]()], **options)
    start = tmp_path / "straight" / f"epoch={epoch}.ckpt"
    train(cfg, tmp_path / "resumed", [AVERAGES[name]()], ckpt_path=start, **options)
    for later in range(epoch + 1, 4):
        found, expected = (saved(tmp_path / folder, later) for folder in ("resumed", "straight"))
        for part in ("state_dict", "current_model_state", "averaging_state"):
            assert_same_bits(found[part], expected[part])
        key = "EmaWeights" if name == "ema" else "SwaWeights"
        assert found["callbacks"][key] == expected["callbacks"][key]
    assert expected["averaging_state"]["n_averaged"] == (3 if name == "swa" else expected["global_step"])


@pytest.mark.parametrize("name", AVERAGES)
def test_averaging_changes_no_bit_of_the_moving_weights(name: str, tiny_config: Configure, tmp_path: Path) -> None:
    cfg = tiny_config(*PLAIN, "trainer.max_epochs=3", "model.drop_rate=0.3")
    train(cfg, tmp_path / "with", [AVERAGES[name]()], val_check_interval=1)
    train(cfg, tmp_path / "without", [], val_check_interval=1)
    assert_same_bits(saved(tmp_path / "with", 2)["current_model_state"], saved(tmp_path / "without", 2)["state_dict"])


@pytest.mark.parametrize("name", AVERAGES)
def test_failure_in_validation_leaves_the_moving_weights_in_the_model(
    name: str, tiny_config: Configure, tmp_path: Path
) -> None:
    recorder = Recorder()
    models: list[nn.Module] = []
    keeper = Callback()
    keeper.on_fit_start = lambda trainer, pl_module: models.append(pl_module)  # type: ignore[method-assign]
    average: AveragedWeights = EmaWeights(0.6) if name == "ema" else SwaWeights(0)
    with pytest.raises(ValueError, match="stopped in validation"):
        train(tiny_config(*PLAIN), tmp_path, [average, recorder, keeper, StopsInValidation()])
    assert_same_bits(copy_of(models[0]), recorder.batches[-1])
    assert any(not torch.equal(v, recorder.batches[-1][k]) for k, v in recorder.validated[0].items())


def test_no_checkpoint_is_written_while_the_average_is_swapped_in(tiny_config: Configure, tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="would mix up"):
        train(tiny_config(*PLAIN), tmp_path, [EmaWeights(0.6), SavesInValidation()])
    assert not (tmp_path / "mixed.ckpt").exists()


@pytest.mark.parametrize("name", AVERAGES)
def test_sanity_check_sees_the_model_as_it_is_and_does_not_enter_the_average(
    name: str, tiny_config: Configure, tmp_path: Path
) -> None:
    cfg = tiny_config(*PLAIN, "trainer.max_epochs=1")
    average: AveragedWeights = EmaWeights(0.6) if name == "ema" else SwaWeights(0)
    changes, recorder = ChangesTheStart(), Recorder()
    trainer, _ = train(cfg, tmp_path, [average, changes, recorder], num_sanity_val_steps=2)
    assert_same_bits(recorder.sanity[0], changes.start)
    assert saved(tmp_path, 0)["averaging_state"]["n_averaged"] == (trainer.global_step if name == "ema" else 1)


def test_another_model_validated_by_the_same_trainer_keeps_its_own_weights(
    tiny_config: Configure, tmp_path: Path
) -> None:
    cfg = tiny_config(*PLAIN, "trainer.max_epochs=1")
    recorder = Recorder()
    trainer, _ = train(cfg, tmp_path, [EmaWeights(0.6), recorder])
    datamodule: Any = trainer.datamodule  # type: ignore[attr-defined]
    other, _, _ = build_model(cfg, check_names(cfg), datamodule)
    before = copy_of(other)
    with quiet_lightning():
        trainer.validate(other, datamodule=datamodule, verbose=False)
    assert_same_bits(recorder.validated[trainer.current_epoch], before)


def test_step_of_the_average_reads_nothing_back_and_moves_nothing_between_devices(
    tiny_config: Configure, tmp_path: Path
) -> None:
    average = WatchesEma()
    train(tiny_config(*PLAIN), tmp_path, [average])
    assert {"aten::_foreach_lerp_.Scalar", "aten::_foreach_copy_"} <= average.watched.names
    assert not average.watched.names & {"aten::_local_scalar_dense", "aten::_to_copy", "aten::is_nonzero"}
