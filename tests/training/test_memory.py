"""A step that does not fit: recognised, explained, and answered with a batch that fits."""

from __future__ import annotations

import copy
import gc
import re
import weakref
from typing import Any, ClassVar

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.training.memory import find_batch_size, is_out_of_memory, out_of_memory_message

SETTINGS: dict[str, Any] = {
    "backbone": "test_resnet", "classes": ["A", "B", "C"], "positive": [], "image_size": 16, "in_chans": 1,
    "drop_rate": 0.0, "mean": 0.25, "std": 0.5, "prior_log_odds": 0.0, "seed": 0, "loss": {"name": "cross_entropy"},
    "augment": {"hflip": 0.5}, "mixup_alpha": 0.0, "optim": {}, "scheduler": {},
}  # fmt: skip


class Limited(nn.Module):
    """A net of which only so many images fit; the sizes and number formats that were tried are noted."""

    tried: ClassVar[list[tuple[int, torch.dtype, bool]]] = []
    passed: ClassVar[list[int]] = []

    def __init__(self, capacity: int, error: type[Exception] = torch.OutOfMemoryError, in_backward: bool = False):
        super().__init__()
        self.capacity = capacity
        self.error = error
        self.in_backward = in_backward
        self.conv = nn.Conv2d(1, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.dropout = nn.Dropout(0.5)
        self.fc = nn.Linear(4, 3)
        self.conv.bias.requires_grad_(False)  # type: ignore[union-attr]

    def forward(self, images: Tensor) -> Tensor:
        features = self.conv(images)
        self.tried.append((len(images), features.dtype, self.training))
        if not self.in_backward:
            self.refuse(len(images))
        else:
            features.register_hook(lambda gradient: self.refuse(len(gradient)))
        logits: Tensor = self.fc(self.dropout(self.norm(features)).mean((2, 3)))
        logits.register_hook(lambda gradient: self.passed.append(len(gradient)))  # type: ignore[no-untyped-call]
        return logits

    def refuse(self, size: int) -> None:
        if size > self.capacity:
            raise self.error("made up")


@pytest.fixture(autouse=True)
def nothing_tried() -> None:
    Limited.tried.clear()
    Limited.passed.clear()


def classifier(backbone: nn.Module) -> PneumoniaClassifier:
    return PneumoniaClassifier(SETTINGS, backbone)


def find(model: PneumoniaClassifier, batch_size: int, precision: str = "float32") -> int:
    return find_batch_size(model, batch_size, device="cpu", precision=precision, image_side=20)


@pytest.mark.parametrize("in_backward", [False, True])
@pytest.mark.parametrize(
    ("asked", "capacity", "tried"),
    [
        (64, 64, [64]),
        (48, 10, [48, 24, 12, 6]),
        (1, 1, [1]),
        pytest.param(64, 63, [64, 32], marks=pytest.mark.slow),
        pytest.param(7, 2, [7, 3, 1], marks=pytest.mark.slow),
    ],
)
def test_batch_is_halved_until_a_whole_step_fits(
    asked: int, capacity: int, tried: list[int], in_backward: bool
) -> None:
    assert find(classifier(Limited(capacity, in_backward=in_backward)), asked) == tried[-1]
    assert [size for size, _, _ in Limited.tried] == tried
    assert Limited.passed[-1] == tried[-1]  # the backward pass was run, too


@pytest.mark.parametrize(("precision", "dtype"), [("float32", torch.float32), ("bf16", torch.bfloat16)])
def test_step_is_tried_in_training_mode_and_in_the_number_format_of_training(
    precision: str, dtype: torch.dtype
) -> None:
    find(classifier(Limited(8)).eval(), 8, precision)
    assert Limited.tried == [(8, dtype, True)]


def test_refused_where_not_even_one_image_fits() -> None:
    with pytest.raises(ValueError, match=r"data\.batch_size=1 and model\.image_size=16 .* lower model\.image_size"):
        find(classifier(Limited(0)), 4)
    assert [size for size, _, _ in Limited.tried] == [4, 2, 1]


def test_other_errors_are_not_taken_for_a_full_memory() -> None:
    with pytest.raises(RuntimeError, match="made up"):
        find(classifier(Limited(2, error=RuntimeError)), 4)
    assert len(Limited.tried) == 1


@pytest.mark.parametrize("capacity", [2, 0])
def test_model_and_random_numbers_come_back_bit_identical(capacity: int) -> None:
    model = classifier(Limited(capacity))
    model.train()
    model.backbone.get_submodule("norm").eval()
    before = copy.deepcopy(model.state_dict())
    modes = [module.training for module in model.modules()]
    strides = [p.stride() for p in model.parameters()]
    torch.manual_seed(3)
    expected = torch.rand(4)
    torch.manual_seed(3)
    if capacity:
        find(model, 8)
    else:
        with pytest.raises(ValueError, match="does not fit"):
            find(model, 8)
    assert torch.equal(torch.rand(4), expected)
    after = model.state_dict()
    assert after.keys() == before.keys() and all(torch.equal(after[k], before[k]) for k in before)
    assert [module.training for module in model.modules()] == modes
    assert [p.stride() for p in model.parameters()] == strides
    assert all(p.grad is None for p in model.parameters())


def test_tensors_of_a_step_that_did_not_fit_are_freed_before_the_next_one() -> None:
    seen: list[weakref.ref[Tensor]] = []
    alive: list[int] = []

    class Remembers(Limited):
        def forward(self, images: Tensor) -> Tensor:
            alive.append(sum(reference() is not None for reference in seen))
            seen.append(weakref.ref(images))
            return super().forward(images)

    find(classifier(Remembers(1)), 8)
    assert alive == [0, 0, 0, 0]


def test_room_is_held_for_the_optimizer_and_for_an_average_of_the_weights() -> None:
    held: list[tuple[int, int]] = []

    class Looks(Limited):
        def __init__(self) -> None:
            super().__init__(8)
            self.frozen = nn.Parameter(torch.zeros(7, 5), requires_grad=False)

        def forward(self, images: Tensor) -> Tensor:
            shapes = [o.shape for o in gc.get_objects() if type(o) is Tensor]
            held.append((shapes.count(self.conv.weight.shape), shapes.count(self.frozen.shape)))
            return super().forward(images)

    find(classifier(Looks()), 8)
    assert held == [(3, 1)]  # two moments and the average; of a frozen weight only the average


def test_real_timm_model_takes_a_step() -> None:
    import timm

    backbone = timm.create_model("test_resnet", num_classes=3, in_chans=1)
    assert find(PneumoniaClassifier({**SETTINGS, "image_size": 64}, backbone), 4) == 4


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"), True),
        (MemoryError(), True),
        (
            RuntimeError("[enforce fail at alloc_cpu.cpp:127] err == 0. DefaultCPUAllocator: can't allocate memory"),
            True,
        ),
        (RuntimeError("[enforce fail at alloc_cpu.cpp:80] data. DefaultCPUAllocator: not enough memory: you"), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 9.03 GB, other allocations: 0 MB)"), True),
        (RuntimeError("CUDA error: out of memory"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("CUDA error: device-side assert triggered"), False),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied (2x3 and 4x5)"), False),
        (ValueError("MPS backend out of memory"), False),
        (KeyboardInterrupt(), False),
    ],
)
def test_only_a_full_memory_is_recognised_as_one(error: BaseException, expected: bool) -> None:
    assert is_out_of_memory(error) is expected


def test_refusal_of_the_real_allocator_is_recognised() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(2**56, dtype=torch.uint8)  # more than any processor can address
    assert is_out_of_memory(caught.value)


@given(st.integers(2, 4096), st.integers(16, 2048), st.sampled_from(["cpu", "gpu", "cuda:1", "mps"]))
def test_message_names_what_was_too_much_and_what_to_type_instead(size: int, side: int, device: str) -> None:
    message = out_of_memory_message(size, side, device, is_sought=False)
    assert f"data.batch_size={size} and model.image_size={side} does not fit into the memory of {device}" in message
    tried = re.search(r"start a new run with data\.batch_size=(\d+) and trainer\.accumulate_grad_batches=2", message)
    assert tried and int(tried[1]) >= 1 and size - 1 <= 2 * int(tried[1]) <= size
    assert "trainer.auto_batch_size=true" in message
    assert "auto_batch_size" not in out_of_memory_message(size, side, device, is_sought=True)


def test_message_for_a_single_image_offers_no_smaller_batch() -> None:
    message = out_of_memory_message(1, 224, torch.device("cuda"), is_sought=False)
    assert "model.image_size=224" in message and "smaller backbone" in message
    assert "batch_size=0" not in message and "auto_batch_size" not in message
