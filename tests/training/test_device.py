"""Training and scoring on a device other than the CPU: nothing waits for it, nothing is left on the wrong side.

Where there is no GPU a stand-in takes its place: tensors that say they lie on another device and are computed here. It
sees what a GPU would be asked for, so a run on it shows the waits that a GPU would cost, and ends with the weights of
a run on the CPU.
"""

from __future__ import annotations

import io
import os
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from pytorch_lightning.accelerators import CPUAccelerator
from pytorch_lightning.strategies import SingleDeviceStrategy
from rich.console import Console
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from pneumolit import scoring
from pneumolit.data import datamodule as loaders
from pneumolit.data.dataset import load_data
from pneumolit.data.sending import send
from pneumolit.model import classifier
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.rundir import RunDir
from pneumolit.scoring import predict_logits
from pneumolit.stage_plan import plan_stages
from pneumolit.training import build
from pneumolit.training.averaging import EmaWeights
from pneumolit.training.build import build_datamodule, build_model, build_trainer, check_names, quiet_lightning
from pneumolit.training.callbacks import build_callbacks
from pneumolit.training.checkpoints import EpochCheckpoints
from pneumolit.training.cuda_graphs import RECORDED, Recording

Configure = Callable[..., dict[str, Any]]

THERE = torch.device("meta")  # the one device whose tensors need no hardware, autograd included
_READS = {
    "_local_scalar_dense", "_unique2", "bincount", "equal", "masked_select", "nonzero", "repeat_interleave",
    "unique_consecutive", "unique_dim",
}  # fmt: skip  # their result, or its shape, is known to the device alone


class Remote(Tensor):
    """A tensor that says it lies on the stand-in; its values are here."""

    local: Tensor

    @staticmethod
    def __new__(cls, inner: Tensor) -> Remote:
        made = Tensor._make_wrapper_subclass(
            cls, inner.size(), strides=inner.stride(), storage_offset=inner.storage_offset(), dtype=inner.dtype,
            layout=inner.layout, device=THERE,
        )  # fmt: skip
        assert isinstance(made, Remote)
        return made

    def __init__(self, inner: Tensor) -> None:
        self.local = inner

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"Remote({self.local})"

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        raise AssertionError(f"{func} after the stand-in was left")


class StandIn(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While it is entered the device exists; `waits` are the calls in which a GPU would make the host wait."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [t for t in tree_leaves((args, kwargs)) if isinstance(t, Tensor)]
        target = kwargs.get("device")
        if not any(isinstance(t, Remote) for t in tensors) and (target is None or target.type != THERE.type):
            return func(*args, **kwargs)
        self._judge(func._schema.name.removeprefix("aten::"), args, kwargs, tensors)
        if target is not None:
            kwargs["device"] = torch.device("cpu")
        args, kwargs = tree_map_only(Remote, lambda t: t.local, (args, kwargs))
        out = func(*args, **kwargs)
        if target is not None and target.type == "cpu":
            return out
        given = {id(t.local) if isinstance(t, Remote) else id(t): t for t in tensors}  # what was changed in place
        return tree_map_only(Tensor, lambda t: given[id(t)] if id(t) in given else Remote(t), out)

    def _judge(self, name: str, args: Any, kwargs: Any, tensors: list[Tensor]) -> None:
        sides = {isinstance(t, Remote) for t in tensors}
        if name in ("_to_copy", "copy_"):
            target = kwargs.get("device")
            is_crossing = len(sides) == 2 or (target is not None and sides != {target.type == THERE.type})
            is_queued = kwargs.get("non_blocking") or (name == "copy_" and True in args[2:])
            if is_crossing and not is_queued:
                self._note(name)
        elif name in _READS or (name.startswith("index") and _has_mask(args[1])):
            self._note(name)
        elif any(not isinstance(t, Remote) and t.dim() for t in tensors):
            raise AssertionError(f"{name} mixes two devices")

    def _note(self, name: str) -> None:
        frames = traceback.extract_stack()
        own = [f for f in frames if "pneumolit" in Path(f.filename).parts or "pytorch_lightning" in f.filename]
        place = (own or frames[:-3])[-1]
        self.waits.append(f"{name} in {Path(place.filename).name}:{place.lineno}: {place.line}")


def _has_mask(indices: Any) -> bool:
    return any(isinstance(t, Tensor) and t.dtype == torch.bool for t in tree_leaves(indices))


class Literals(TorchFunctionMode):
    """`torch.tensor(..., device=THERE)` makes a tensor here and copies it, as for a GPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        device = kwargs.get("device") if func in (torch.tensor, torch.as_tensor) else None
        if device is None or torch.device(device).type != THERE.type:
            return func(*args, **kwargs)
        del kwargs["device"]
        return func(*args, **kwargs).to(device)


@contextmanager
def stand_in() -> Iterator[StandIn]:
    with StandIn() as device, Literals():
        yield device


class AnyDevice(CPUAccelerator):
    """Lightning's own takes the CPU alone."""

    def setup_device(self, device: torch.device) -> None:
        pass


class Steps(Callback):
    """How often the device had been waited for at the end of every step."""

    def __init__(self, device: StandIn) -> None:
        self.device = device
        self.training: list[int] = []
        self.validation: list[int] = []

    def on_train_batch_end(self, *arguments: Any) -> None:
        self.training.append(len(self.device.waits))

    def on_validation_batch_end(self, *arguments: Any) -> None:
        self.validation.append(len(self.device.waits))


@dataclass
class Fit:
    """What a training leaves: its classifier, its loss, the waits between the first and the last step."""

    model: PneumoniaClassifier
    loss: float
    in_steps: list[str]
    in_validation: list[str]


def fit(cfg: dict[str, Any], folder: Path, device: StandIn | None = None, *, is_held: bool = False) -> Fit:
    """One stage with all its callbacks but the one that writes checkpoints."""
    datamodule = build_datamodule(cfg, load_data(cfg["data"], Path(cfg["cache_dir"])))
    model, _, _ = build_model(cfg, check_names(cfg), datamodule)
    run, stage = RunDir(folder), plan_stages(cfg)[0]
    folder.mkdir()
    own = build_callbacks(
        cfg["callbacks"], run, Console(file=io.StringIO()), stage,
        epochs_before=0, steps_before=0, epochs=stage.epochs, is_live=False,
    )  # fmt: skip
    callbacks = [c for c in own if not isinstance(c, EpochCheckpoints)]
    steps = Steps(device or StandIn())
    accelerator: Any = "cpu"
    if device is not None:
        accelerator = AnyDevice()
        cfg = {**cfg, "trainer": {**cfg["trainer"], "strategy": SingleDeviceStrategy(THERE)}}
        assert datamodule.hold_images_on(THERE) == is_held
    with quiet_lightning():
        trainer = build_trainer(cfg, run, [*callbacks, steps], None, accelerator=accelerator, precision="float32")
        trainer.fit(model.use_channels_last(), datamodule=datamodule)
    waits = device.waits if device is not None else []
    assert len(steps.training) > 2 and len(steps.validation) > 2
    loss = float(trainer.callback_metrics["train/loss"])
    between = [waits[at[0] : at[-1]] for at in (steps.training, steps.validation)]
    return Fit(model, loss, *between)


SHORT = ("data.batch_size=4", "trainer.max_epochs=1", "trainer.limit_train_batches=5", "data.stress=false")
EVERYTHING = (
    "augment.noise_prob=0.5", "augment.erase_prob=0.5", "augment.blur_prob=0.5", "augment.shear_degrees=5",
    "augment.mixup_alpha=0.5", "augment.cutmix_alpha=1", "trainer.gradient_clip_val=1",
    "trainer.accumulate_grad_batches=2",
)  # fmt: skip


@pytest.mark.parametrize(
    ("choices", "is_held"),
    [
        ((), True),
        (EVERYTHING, False),
        (("augment=none", "augment.hflip=0.5", "loss=binary_cross_entropy", "loss.class_weight=balanced"), True),
        (("loss=focal", "optim=sgd", "callbacks=swa"), False),
        (("loss=logit_adjusted", "freeze=groups", "model.in_chans=3", "optim=lion"), False),
    ],
    ids=["default", "everything", "binary", "swa", "frozen"],
)
def test_no_step_waits_for_the_device_and_it_learns_what_a_cpu_learns(
    choices: tuple[str, ...], is_held: bool, tiny_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loaders, "fits_device", lambda size, device: is_held)
    monkeypatch.setattr(classifier, "EVAL_BATCH", 5)
    monkeypatch.setattr(loaders.EvalSampler.__init__, "__defaults__", (5,))
    cfg = tiny_config(*SHORT, *choices)
    expected = fit(cfg, tmp_path / "here")
    with stand_in() as device:
        found = fit(cfg, tmp_path / "there", device, is_held=is_held)
    assert found.in_steps == []
    assert found.in_validation == []
    assert found.loss == pytest.approx(expected.loss, rel=1e-4)
    for name, value in expected.model.state_dict().items():
        torch.testing.assert_close(found.model.state_dict()[name], value, rtol=1e-3, atol=1e-4, msg=name)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda x: float(x.sum()), "_local_scalar_dense"),
        (lambda x: bool((x > 0).all()), "_local_scalar_dense"),
        (lambda x: x[x > 0], "index"),
        (lambda x: x.nonzero(), "nonzero"),
        (lambda x: x.cpu(), "_to_copy"),
        (lambda x: torch.ones(3).to(THERE), "_to_copy"),
        (lambda x: x.copy_(torch.ones(3)), "copy_"),
        (lambda x: torch.tensor([1.0, 2.0], device=THERE), "_to_copy"),
    ],
    ids=["float", "bool", "mask", "nonzero", "cpu", "to", "copy", "literal"],
)
def test_the_stand_in_notices_a_wait(call: Callable[[Tensor], Any], words: str) -> None:
    with stand_in() as device:
        x = torch.arange(3.0, device=THERE)
        assert not device.waits
        call(x)
    assert [wait.partition(" ")[0] for wait in device.waits] == [words]


def test_the_stand_in_refuses_operands_on_two_sides_and_lets_queued_copies_pass() -> None:
    with stand_in() as device:
        x = torch.zeros(3, device=THERE)
        with pytest.raises(AssertionError, match="add mixes two devices"):
            x + torch.ones(3)
        x += send(torch.ones(3), THERE)
        assert not device.waits
        assert x.cpu().tolist() == [1, 1, 1]


def test_scoring_waits_for_the_device_once_and_at_its_end(
    tiny_config: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The stand-in knows no autocast, not even one that is off.
    monkeypatch.setattr(scoring, "inference", lambda device, precision: torch.no_grad())
    cfg = tiny_config()
    datamodule = build_datamodule(cfg, load_data(cfg["data"], Path(cfg["cache_dir"])))
    model, _, _ = build_model(cfg, check_names(cfg), datamodule)
    rows = datamodule.images_of("stress")
    assert len(rows) > loaders.EVAL_BATCH  # several batches, the last one filled up
    expected = predict_logits(model, rows)
    with stand_in() as device:
        model.to(THERE)
        device.waits.clear()
        found = predict_logits(model, rows)
    assert len(device.waits) == 1
    assert found == pytest.approx(expected, abs=1e-4)


def test_validation_shows_the_backbone_one_shape_on_a_device(
    tiny_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: dict[bool, set[torch.Size]] = {True: set(), False: set()}

    class Sees(PneumoniaClassifier):
        def forward(self, images: Tensor) -> Tensor:
            shapes[self.training].add(images.shape)
            return super().forward(images)

    monkeypatch.setattr(build, "PneumoniaClassifier", Sees)
    monkeypatch.setattr(classifier, "EVAL_BATCH", 5)
    monkeypatch.setattr(loaders.EvalSampler.__init__, "__defaults__", (5,))
    cfg = tiny_config(*SHORT)
    with stand_in() as device:
        fit(cfg, tmp_path / "there", device)
    assert shapes == {True: {torch.Size((4, 1, 32, 32))}, False: {torch.Size((5, 1, 32, 32))}}


def test_more_steps_look_no_more_often_for_a_gpu(
    tiny_config: Configure, train_run: Callable[..., RunDir], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks: list[None] = []

    def look() -> int:
        looks.append(None)
        return -1

    monkeypatch.setattr(torch.cuda, "_raw_device_count_nvml", look)
    counts = []
    for steps in (1, 5):
        train_run(tiny_config(*SHORT, f"trainer.limit_train_batches={steps}"), tmp_path / str(steps))
        counts.append(len(looks))
        looks.clear()
    assert counts[0] == counts[1]
    assert os.environ["PYTORCH_NVML_BASED_CUDA_CHECK"] == "1"  # as Lightning set it


class Strict(Callback):
    """From the second step to the last but one of an epoch a wait is an error."""

    def on_train_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        is_over = batch_idx + 2 >= trainer.num_training_batches
        torch.cuda.set_sync_debug_mode("default" if is_over else "error")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("is_held", [False, True], ids=["sent", "held"])
@pytest.mark.parametrize("is_recorded", [False, True], ids=["plain", "recorded"])
def test_cuda_itself_sees_no_wait_in_a_step(
    is_recorded: bool,
    is_held: bool,
    precision: str,
    tiny_config: Configure,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loaders, "fits_device", lambda size, device: is_held)
    once = ("trainer.accumulate_grad_batches=1",) if is_recorded else ()
    cfg = tiny_config(*SHORT, *EVERYTHING, *once, "trainer.accelerator=gpu")
    datamodule = build_datamodule(cfg, load_data(cfg["data"], Path(cfg["cache_dir"])))
    model, _, _ = build_model(cfg, check_names(cfg), datamodule)
    assert datamodule.hold_images_on(torch.device("cuda")) == is_held
    notes: list[str] = []
    recording = [Recording(precision, notes.append)] if is_recorded else []
    callbacks = [EmaWeights(0.9), *recording, Strict()]
    try:
        with quiet_lightning():
            trainer = build_trainer(cfg, RunDir(tmp_path), callbacks, None, accelerator="gpu", precision=precision)
            trainer.fit(model.use_channels_last(), datamodule=datamodule)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert trainer.global_step > 0
    assert notes == [RECORDED] * is_recorded
