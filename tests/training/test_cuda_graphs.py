"""The backbone's passes as CUDA graphs: when, what they leave alone, and that they compute what is not recorded."""

from __future__ import annotations

import copy
import io
import weakref
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from pytorch_lightning import Callback
from rich.console import Console
from torch import Tensor, nn

from pneumolit.data import datamodule as loaders
from pneumolit.data.dataset import load_data
from pneumolit.model import cuda_graphs as passes
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.cuda_graphs import RecordedBackbone, record_backbone
from pneumolit.rundir import RunDir, read_json
from pneumolit.training import cuda_graphs
from pneumolit.training.build import build_datamodule, build_model, check_names
from pneumolit.training.cuda_graphs import RECORDED, Recording, why_unrecorded
from pneumolit.training.fit import fit

Configure = Callable[..., dict[str, Any]]
needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
QUICK = ("data.stress=false", "logger=none", "trainer.limit_train_batches=3", "trainer.max_epochs=2")


@pytest.mark.parametrize(
    ("choices", "facts", "reason"),
    [
        ((), {}, ""),
        ((), {"accelerator": "cuda", "precision": "float32"}, ""),
        (("trainer.cuda_graphs=false",), {}, "cuda_graphs=false"),
        ((), {"accelerator": "cpu"}, "the device is cpu"),
        ((), {"accelerator": "mps"}, "the device is mps"),
        (("trainer.compile=true",), {}, "compile=true"),
        (("trainer.accumulate_grad_batches=2",), {}, "gradients of 2 batches"),
        ((), {"precision": "fp16"}, "fp16"),
        ((), {"is_stored": True}, "stored features"),
    ],
)
def test_steps_are_recorded_only_where_a_replay_is_the_whole_step(
    choices: tuple[str, ...], facts: dict[str, Any], reason: str, tiny_config: Configure
) -> None:
    given: dict[str, Any] = {"accelerator": "gpu", "precision": "bf16", "is_stored": False} | facts
    found = why_unrecorded(tiny_config(*choices), **given)
    assert reason in found if reason else found == ""


def test_the_record_says_why_nothing_is_recorded(small_run: Path) -> None:
    assert read_json(small_run / "environment.json")["cuda_graphs"] == {"1": "no: the device is cpu and no NVIDIA GPU"}


def test_a_wish_that_cannot_be_met_is_refused_before_anything_is_written(
    command: Callable[..., Any], demo_root: Path
) -> None:
    outcome = command(
        "train", f"data.root={demo_root}", "data=demo", "trainer.cuda_graphs=true", "trainer.accelerator=cpu"
    )
    assert outcome.code == 2
    assert "trainer.cuda_graphs=true cannot be: the device is cpu" in outcome.err
    assert "Traceback" not in outcome.err
    assert not [p for p in outcome.left if p.name == "config.yaml"]


@pytest.mark.parametrize(
    "other", ["trainer.compile=true", "trainer.accumulate_grad_batches=2", "trainer.auto_batch_size=true"]
)
def test_choices_that_exclude_it_are_named_by_the_check_of_the_configuration(
    other: str, command: Callable[..., Any]
) -> None:
    outcome = command("train", "data=demo", "trainer.cuda_graphs=true", other)
    assert outcome.code == 2
    assert f"together with {other};" in outcome.err


class _Calls:
    """Stands for recorded passes on a CPU."""

    def __init__(self, backbone: nn.Module) -> None:
        self.backbone = backbone
        self.count = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.count += 1
        out: Tensor = self.backbone(images)
        return out


def test_training_batches_are_replayed_and_validation_is_not(
    tiny_config: Configure, train_only: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[_Calls, torch.Size]] = []

    def record(backbone: nn.Module, images: Tensor, *, precision: str, beside: Tensor) -> RecordedBackbone:
        made.append((_Calls(backbone), images.shape))
        return RecordedBackbone(made[-1][0], images.shape)

    monkeypatch.setattr(cuda_graphs, "record_backbone", record)
    monkeypatch.setattr(loaders.EvalSampler.__init__, "__defaults__", (4,))  # validation in batches of that shape too
    notes: list[str] = []
    cfg = tiny_config(*QUICK, "data.batch_size=4")
    trained = train_only(cfg, tmp_path / "run", [Recording("float32", notes.append)])
    assert len(made) == 1
    calls, shape = made[0]
    assert shape == (4, 1, 32, 32)
    assert calls.count == trained.trainer.global_step == 6
    assert notes == [RECORDED]


def test_the_images_that_are_recorded_have_the_size_of_training_and_room_is_left_for_validation(
    tiny_config: Configure, train_only: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[torch.Size] = []

    def record(backbone: nn.Module, images: Tensor, *, precision: str, beside: Tensor) -> RecordedBackbone:
        seen.extend([images.shape, beside.shape])
        return RecordedBackbone(backbone, images.shape)

    monkeypatch.setattr(cuda_graphs, "record_backbone", record)
    cfg = tiny_config(*QUICK, "data.batch_size=4", "model.train_size=24")
    train_only(cfg, tmp_path / "run", [Recording("float32", lambda _: None)])
    assert seen == [(4, 1, 24, 24), (loaders.EVAL_BATCH, 1, 32, 32)]


@pytest.mark.parametrize("fails", [False, True])
def test_memory_of_the_recorded_passes_is_given_back_however_the_fit_ends(
    fails: bool, tiny_config: Configure, train_only: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[PneumoniaClassifier] = []

    class Stop(Callback):
        def on_train_batch_end(self, trainer: Any, pl_module: Any, *_: Any) -> None:
            models.append(pl_module)
            assert pl_module.recorded is not None
            if fails:
                raise ArithmeticError("diverged")

    def record(backbone: nn.Module, images: Tensor, **_: Any) -> RecordedBackbone:
        return RecordedBackbone(backbone, images.shape)

    monkeypatch.setattr(cuda_graphs, "record_backbone", record)
    with pytest.raises(ArithmeticError) if fails else nullcontext():
        train_only(tiny_config(*QUICK), tmp_path / "run", [Recording("float32", lambda _: None), Stop()])
    assert models[0].recorded is None
    assert all(parameter.grad is None for parameter in models[0].parameters())


def test_a_model_that_cannot_be_recorded_trains_all_the_same(
    tiny_config: Configure, train_only: Callable[..., Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nand more")

    monkeypatch.setattr(cuda_graphs, "record_backbone", refuse)
    notes: list[str] = []
    trained = train_only(tiny_config(*QUICK), tmp_path / "run", [Recording("float32", notes.append)])
    assert trained.trainer.global_step == 6
    assert notes == ["no: operation not permitted when stream is capturing"]
    with pytest.raises(ValueError, match=r"cannot be recorded: operation not permitted.*go on with .*cuda_graphs=auto"):
        train_only(tiny_config(*QUICK), tmp_path / "asked", [Recording("float32", notes.append, is_asked=True)])


@pytest.mark.parametrize("fails", [False, True])
def test_warming_up_leaves_the_statistics_of_batch_norms_alone(fails: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    def warm_up(shell: nn.Module, arguments: tuple[Tensor], **_: Any) -> nn.Module:
        shell(*arguments)
        if fails:
            raise RuntimeError("cannot")
        return shell

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", warm_up)
    monkeypatch.setattr(passes, "_refuse_waits", lambda shell, images: None)
    monkeypatch.setattr(passes, "_state_kept", nullcontext)
    backbone = timm.create_model("test_resnet", num_classes=2)
    before = copy.deepcopy(backbone.state_dict())
    images = torch.rand(4, 3, 32, 32)
    if fails:
        with pytest.raises(RuntimeError):
            record_backbone(backbone, images, precision="float32")
    else:
        recorded = record_backbone(backbone, images, precision="float32", beside=images[:2])
        assert recorded.fits(torch.rand(4, 3, 32, 32))
        assert not recorded.fits(images[:3])
        with torch.no_grad():
            assert not recorded.fits(images)
    for name, value in backbone.state_dict().items():
        assert torch.equal(value, before[name]), name


def test_passes_share_no_nodes_of_autograd_with_those_before(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Tensor] = []

    def record(shell: nn.Module, arguments: tuple[Tensor], **_: Any) -> nn.Module:
        for _pass in range(2):
            seen.append(shell(*arguments))
            assert all(logits.grad_fn is None for logits in seen[:-1])
            torch.autograd.grad(seen[-1].sum(), list(shell.parameters()))
        return shell

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", record)
    monkeypatch.setattr(passes, "_refuse_waits", lambda shell, images: None)
    monkeypatch.setattr(passes, "_state_kept", nullcontext)
    record_backbone(nn.Sequential(nn.Flatten(), nn.Linear(64, 2)), torch.ones(4, 1, 8, 8), precision="float32")
    assert [logits.grad_fn for logits in seen] == [None, None]


def test_what_a_module_made_for_itself_outlives_its_being_thrown_away(monkeypatch: pytest.MonkeyPatch) -> None:
    class Keeps(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.last = nn.Linear(64, 2)
            self.cache: dict[str, Tensor] = {}

        def forward(self, images: Tensor) -> Tensor:
            self.cache.setdefault("bias", torch.ones(2))
            out: Tensor = self.last(images.flatten(1)) + self.cache["bias"]
            return out

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", lambda shell, images, **_: (shell(*images), shell)[1])
    monkeypatch.setattr(passes, "_refuse_waits", lambda shell, images: None)
    monkeypatch.setattr(passes, "_state_kept", nullcontext)
    keeps = Keeps()
    recorded = record_backbone(nn.Sequential(keeps), torch.ones(4, 1, 8, 8), precision="float32")
    bias = weakref.ref(keeps.cache["bias"])
    keeps.cache.clear()
    assert bias() is not None
    del recorded
    assert bias() is None


def test_a_copy_of_a_model_does_not_replay_the_passes_of_the_original(tiny_config: Configure) -> None:
    cfg = tiny_config()
    datamodule = build_datamodule(cfg, load_data(cfg["data"], Path(cfg["cache_dir"])))
    model: PneumoniaClassifier = build_model(cfg, check_names(cfg), datamodule)[0]
    model.recorded = RecordedBackbone(_Calls(model.backbone), torch.Size((4, 1, 32, 32)))
    assert copy.deepcopy(model).recorded is None


NETS: dict[str, dict[str, Any]] = {
    "test_resnet": {},
    "densenet121": {},
    "efficientnet_b0": {},
    "convnext_atto": {},
    "vit_tiny_patch16_224": {},
    "swin_tiny_patch4_window7_224": {"drop_path_rate": 0.0},  # its own is random
    "levit_128s": {"drop_path_rate": 0.0},
}


@needs_cuda
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", list(NETS))
def test_recorded_passes_are_those_of_the_model_also_after_its_weights_have_changed(name: str, precision: str) -> None:
    torch.manual_seed(0)
    made: nn.Module = timm.create_model(name, num_classes=3, in_chans=1, **NETS[name])
    plain = made.cuda().to(memory_format=torch.channels_last)
    for parameter in next(iter(plain.children())).parameters():
        parameter.requires_grad = False
    other = copy.deepcopy(plain)
    images = torch.rand(8, 1, 224, 224, device="cuda")
    recorded = record_backbone(other, images, precision=precision)
    ways: list[tuple[nn.Module, Callable[[Tensor], Tensor]]] = [(plain, plain), (other, recorded)]
    optimizers = [torch.optim.SGD([p for p in m.parameters() if p.requires_grad], lr=0.01) for m, _ in ways]
    is_bf16 = precision == "bf16"
    for _ in range(3):
        images, targets = torch.rand_like(images), torch.randint(0, 3, (8,), device="cuda")
        losses = []
        for (_, run), optimizer in zip(ways, optimizers, strict=True):
            with torch.autocast("cuda", torch.bfloat16, enabled=is_bf16):
                loss = nn.functional.cross_entropy(run(images).float(), targets)
            torch.autograd.backward(loss)
            optimizer.step()
            optimizer.zero_grad()
            losses.append(float(loss.detach()))
        assert losses[1] == pytest.approx(losses[0], rel=5e-2 if is_bf16 else 1e-3)
    rtol, atol = (0.05, 0.01) if is_bf16 else (1e-2, 1e-3)
    for key, value in plain.state_dict().items():
        torch.testing.assert_close(other.state_dict()[key], value, msg=key, rtol=rtol, atol=atol)


@needs_cuda
def test_gray_images_seen_as_three_channels_are_replayed() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Linear(3 * 64, 2)).cuda()
    gray = torch.rand(4, 1, 8, 8, device="cuda")
    recorded = record_backbone(net, gray.expand(-1, 3, -1, -1), precision="float32")
    images = torch.rand_like(gray).expand(-1, 3, -1, -1)
    torch.testing.assert_close(recorded(images), net(images))


@needs_cuda
def test_a_frozen_levit_keeps_its_position_biases_through_a_validation() -> None:
    torch.manual_seed(0)
    net = timm.create_model("levit_128s", num_classes=2, in_chans=1).cuda()
    for name, parameter in net.named_parameters():
        parameter.requires_grad = name.startswith("head")
    net.eval()  # as frozen blocks are
    images = torch.rand(4, 1, 224, 224, device="cuda")
    recorded = record_backbone(net, images, precision="float32")
    expected = recorded(images).clone()
    net.train().eval()  # throws the biases away
    junk = [torch.full((1 << 20,), float("nan"), device="cuda") for _ in range(64)]
    torch.testing.assert_close(recorded(images), expected)
    del junk


@needs_cuda
def test_dropout_is_drawn_anew_in_every_replay_and_the_same_from_the_same_seed() -> None:
    net = nn.Sequential(nn.Flatten(), nn.Dropout(0.5), nn.Linear(64, 64, bias=False)).cuda()
    images = torch.ones(4, 1, 8, 8, device="cuda")
    recorded = record_backbone(net, images, precision="float32")
    torch.manual_seed(1)
    first, second = recorded(images).clone(), recorded(images).clone()
    torch.manual_seed(1)
    again = recorded(images).clone()
    assert not torch.equal(first, second)
    assert torch.equal(first, again)


@needs_cuda
@pytest.mark.parametrize("is_late", [False, True], ids=["at_once", "while_recording"])
def test_a_net_that_waits_for_the_gpu_is_not_recorded_and_works_on(is_late: bool) -> None:
    class Waits(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.drop, self.last = nn.Dropout(0.5), nn.Linear(64, 2)

        def forward(self, images: Tensor) -> Tensor:
            x = self.drop(images.flatten(1))
            if not is_late or torch.cuda.is_current_stream_capturing():
                x = x * (2.0 if float(x.detach().sum()) > 0 else 1.0)
            out: Tensor = self.last(x)
            return out

    net, images = Waits().cuda(), torch.ones(4, 1, 8, 8, device="cuda")
    with pytest.raises(RuntimeError):
        record_backbone(net, images, precision="float32")
    assert torch.cuda.current_stream() == torch.cuda.default_stream()
    torch.cuda.empty_cache()
    torch.manual_seed(1)
    torch.autograd.backward(net(images).sum())
    torch.cuda.synchronize()
    assert net.last.weight.grad is not None
    again = record_backbone(nn.Sequential(nn.Flatten(), net.drop, net.last), images, precision="float32")
    assert again(images).shape == (4, 2)


@needs_cuda
def test_gradients_are_not_handed_from_stream_to_stream(recwarn: pytest.WarningsRecorder) -> None:
    net, images = nn.Sequential(nn.Flatten(), nn.Linear(64, 2)).cuda(), torch.ones(4, 1, 8, 8, device="cuda")
    torch.set_warn_always(True)  # torch says it once in a process
    try:
        recorded = record_backbone(net, images, precision="bf16")
        torch.autograd.backward(recorded(images).sum())
    finally:
        torch.set_warn_always(False)
    assert not [w for w in recwarn if "stream does not match" in str(w.message)]


@needs_cuda
@pytest.mark.parametrize("freeze", ["none", "groups"])
def test_a_whole_run_on_a_gpu_learns_the_same_with_and_without_it(
    freeze: str, tiny_config: Configure, tmp_path: Path
) -> None:
    rows = []
    for way in ("true", "false"):
        folder = tmp_path / way
        choices = (
            f"freeze={freeze}",
            "trainer.gradient_clip_val=1",
            "augment.mixup_alpha=0.4",
            f"trainer.cuda_graphs={way}",
            "trainer.accelerator=gpu",
            "precision=float32",
        )
        fit(tiny_config(*QUICK, *choices, f"output_dir={tmp_path}"), folder, Console(file=io.StringIO()))
        noted = read_json(folder / "environment.json")["cuda_graphs"]
        assert noted == {"1": RECORDED if way == "true" else "no: trainer.cuda_graphs=false"}
        rows.append([row[key] for row in RunDir(folder).read_metrics() for key in ("train/loss", "val/loss")])
    assert rows[0] == pytest.approx(rows[1], rel=1e-3)
