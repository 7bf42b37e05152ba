"""torch.compile for a run that asks for it, and what its failures mean to people."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from torch import nn

_BEGINNINGS = ("torch._dynamo", "torch._inductor", "triton")


def compile_backbone(backbone: nn.Module) -> None:
    """Let a model be compiled at its first call, in place: names of weights, hooks and copies stay as they are."""
    # Training batches all have one shape; kernels for any shape would be slower.
    backbone.compile(dynamic=False)


@contextmanager
def compiler_errors_explained() -> Iterator[None]:
    """Turn a failure of the compiler itself into a message that names the way out.

    Raises:
        ValueError: no C++ compiler, no Triton, or a model that the compiler cannot take.
    """
    try:
        yield
    except Exception as error:
        if not type(error).__module__.startswith(_BEGINNINGS):
            raise
        first = next((line for line in str(error).splitlines() if line.strip()), type(error).__name__)
        raise ValueError(
            f"trainer.compile=true, but the model cannot be compiled here: {first.strip()}. It needs a C++ compiler "
            "(CPU) or Triton (GPU); set trainer.compile=false"
        ) from error
