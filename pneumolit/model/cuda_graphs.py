"""Forward and backward pass of a backbone as CUDA graphs.

A GPU finishes the small operations of a training on films sooner than Python can ask for the next one: both passes of
densenet121 are some 1,700 of them. Recorded once, each pass is asked for as a whole. The kernels, and so the numbers,
are those of the unrecorded passes.

Source:
    NVIDIA and PyTorch, Accelerating PyTorch with CUDA Graphs, 2021; `torch.cuda.make_graphed_callables`.
"""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves


class RecordedBackbone:
    """What was recorded of one model for one shape of images.

    Args:
        replay: from images to logits, with a gradient.
        shape: of the images.
        held: what must stay where it is in memory besides weights and buffers.
    """

    def __init__(self, replay: Callable[[Tensor], Tensor], shape: torch.Size, held: Sequence[Tensor] = ()) -> None:
        self._replay = replay
        self._shape = shape
        self._held = held

    def __call__(self, images: Tensor) -> Tensor:
        """Logits `(B, K)` of images; they are overwritten by the next call, gradients by the next backward pass."""
        return self._replay(images)

    def fits(self, images: Tensor) -> bool:
        """Whether these images, and the gradient that is or is not wanted, are what was recorded."""
        return images.shape == self._shape and torch.is_grad_enabled()

    def __deepcopy__(self, memo: Any) -> None:
        """A copy of a model has other weights: nothing is recorded of it."""


def record_backbone(
    backbone: nn.Module, images: Tensor, *, precision: str, beside: Tensor | None = None
) -> RecordedBackbone:
    """Record the passes of a model on a GPU as it stands: modes, what is frozen, where its weights lie.

    Weights may change in place afterwards. Random numbers of dropout are drawn anew in every replay.

    Args:
        backbone: its buffers end as they were.
        images: of the shape, type and memory order of a training batch.
        precision: "float32" or "bf16".
        beside: images of a forward pass without gradient for which memory has to be left.

    Raises:
        RuntimeError: the model does what cannot be recorded (it waits for the GPU, say), or memory is too small;
            the model and the GPU can be used on.
    """
    images = images.clone()  # gray images seen as three channels have one memory for all of them
    shell = _Shell(backbone)
    kept = [buffer.clone() for buffer in backbone.buffers()]  # warming up moves the statistics of batch norms
    # A cast of weights that is kept from pass to pass would be recorded in one of them only.
    autocast = torch.autocast(images.device.type, torch.bfloat16, enabled=precision == "bf16", cache_enabled=False)
    try:
        with autocast, _state_kept(images.device):
            _refuse_waits(shell, images)
            replay = torch.cuda.make_graphed_callables(shell, (images,), allow_unused_input=True)
            if beside is not None:
                with torch.no_grad():
                    backbone(beside)
    finally:
        if images.device.type == "cuda":
            torch.cuda.synchronize(images.device)  # what failed may still be at work on another stream
        with torch.no_grad():
            for buffer, before in zip(backbone.buffers(), kept, strict=True):
                buffer.copy_(before)
    shell.forget_graph()
    return RecordedBackbone(cast(Callable[[Tensor], Tensor], replay), images.shape, list(_own_tensors(backbone)))


def _own_tensors(backbone: nn.Module) -> Iterator[Tensor]:
    """Tensors that modules keep for themselves, such as the position biases that LeViT makes once for its eval mode.

    A recording reads them where they lay, also after the module has thrown them away.
    """
    for module in backbone.modules():
        own = [value for name, value in vars(module).items() if name not in ("_parameters", "_buffers", "_modules")]
        yield from (leaf for leaf in tree_leaves(own) if isinstance(leaf, Tensor))


class _Shell(nn.Module):
    """What gets a new `forward`, so that the model itself stays as it is."""

    def __init__(self, backbone: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self._logits: Tensor | None = None

    def forward(self, images: Tensor) -> Tensor:
        self.forget_graph()  # or these passes would share nodes with those before, and so their stream
        logits: Tensor = self.backbone(images).clone()  # no view, which could not be cut off
        self._logits = logits
        return logits

    def forget_graph(self) -> None:
        """Cut the last logits off from autograd's nodes.

        The node of a weight's gradient knows the stream that it was made on, and while it lives every gradient of that
        weight is handed over to that stream: of recorded passes in training, or of earlier ones in the recording,
        which may fail then.
        """
        if self._logits is not None:
            self._logits.detach_()
            self._logits = None


def _refuse_waits(shell: _Shell, images: Tensor) -> None:
    """One step that is not recorded: a wait in a recorded one leaves the GPU in a state that ends the run."""
    parameters = [p for p in shell.parameters() if p.requires_grad]
    shell(images).sum().backward(inputs=parameters)  # what is built once may wait
    mode = torch.cuda.get_sync_debug_mode()
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*Synchronization debug mode is a prototype.*")
            torch.cuda.set_sync_debug_mode("error")
        shell(images).sum().backward(inputs=parameters)
    finally:
        torch.cuda.set_sync_debug_mode(mode)
        shell.forget_graph()
        for parameter in parameters:
            parameter.grad = None


@contextmanager
def _state_kept(device: torch.device) -> Iterator[None]:
    """What a recording that fails would leave changed, and a collection of garbage that would make one fail."""
    stream, index = torch.cuda.current_stream(device), torch.cuda.current_device()
    generator = torch.cuda.default_generators[index if device.index is None else device.index]
    before = generator.clone_state()
    gc.collect()
    was_collecting = gc.isenabled()
    gc.disable()  # graphs of an earlier fit that are destroyed now would end this recording
    try:
        with torch.cuda.stream(stream):
            yield
    except BaseException:
        generator.graphsafe_set_state(before)  # else every later draw would pass for one that is recorded
        raise
    finally:
        if was_collecting:
            gc.enable()
