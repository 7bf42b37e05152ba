"""A training step that does not fit into memory: recognised, explained, and how large a batch fits."""

from __future__ import annotations

import copy
import gc

import torch

from pneumolit.model.classifier import PneumoniaClassifier

# Only CUDA's allocator has an error of its own; the others raise RuntimeError with these words.
_WORDS = (
    "DefaultCPUAllocator: can't allocate memory",  # Linux, macOS
    "DefaultCPUAllocator: not enough memory",  # Windows
    "MPS backend out of memory",
    "CUDA error: out of memory",  # the driver's own, when no allocator stood between
    "CUBLAS_STATUS_ALLOC_FAILED",  # cuBLAS and cuDNN take their workspace themselves
    "CUDNN_STATUS_ALLOC_FAILED",
)
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that a device or the computer has no memory left."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _WORDS)


def validation_out_of_memory_message(
    batch_size: int, image_size: int, device: torch.device | str, *, is_trainings: bool = False
) -> str:
    """What to tell a person whose validation did not fit.

    Args:
        batch_size: of validation.
        image_size: in pixels.
        device: that it was to fit into.
        is_trainings: whether that size follows the one of training; else it is the same for any.
    """
    way = "a lower data.batch_size or" if is_trainings else "a lower"
    size = "" if is_trainings else " (data.batch_size is that of training alone)"
    return (
        f"validation, {batch_size} images at a time with model.image_size={image_size}, does not fit into the memory "
        f"of {device}; start a new run with {way} model.image_size or a smaller backbone{size}"
    )


def out_of_memory_message(batch_size: int, image_size: int, device: torch.device | str, *, is_sought: bool) -> str:
    """What to tell a person whose training step did not fit.

    Args:
        batch_size: of training.
        image_size: of training, in pixels.
        device: that it was to fit into.
        is_sought: whether trainer.auto_batch_size is on.
    """
    found = (
        f"a training step with data.batch_size={batch_size} and model.image_size={image_size} does not fit into the "
        f"memory of {device}"
    )
    if batch_size == 1:
        return f"{found}; lower model.image_size, or choose a smaller backbone"
    other = "" if is_sought else " or trainer.auto_batch_size=true, which finds what fits,"
    return (
        f"{found}; start a new run with data.batch_size={batch_size // 2} and trainer.accumulate_grad_batches=2 (twice "
        f"what it was), which keeps the batch of an optimizer step,{other} or lower model.image_size"
    )


def find_batch_size(
    model: PneumoniaClassifier, batch_size: int, *, device: torch.device | str, precision: str, image_side: int
) -> int:
    """The first of batch_size, batch_size // 2, ..., 1 with which a training step fits into memory.

    Tried on a copy of the model with made-up images, so the model stays as it is: weights, buffers, gradients, modes,
    device. A CPU gives an answer only where the system refuses memory; most let a process take more than there is.

    Args:
        model: as it will be trained.
        batch_size: the largest to try, at least 1.
        device: that of training.
        precision: "float32", "bf16" or "fp16".
        image_side: of the stored images, in pixels.

    Raises:
        ValueError: not even one image fits.
    """
    device = torch.device(device)
    size = batch_size
    # Dropout draws; MPS has no state to keep here, and every epoch seeds it anew.
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        while size > 0:
            if _fits(model, size, device, precision, image_side):
                return size
            size //= 2
    raise ValueError(out_of_memory_message(1, model.train_size, device, is_sought=True))


def _fits(model: PneumoniaClassifier, size: int, device: torch.device, precision: str, image_side: int) -> bool:
    """Try one batch size; all it took is given back before this returns."""
    is_fitting = True
    try:
        _take_step(model, size, device, precision, image_side)
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        is_fitting = False
    # Not in the except clause: until it ends the error holds every frame, and they hold the activations.
    gc.collect()
    if device.type != "cpu":
        torch.accelerator.empty_cache()
    return is_fitting


def _take_step(model: PneumoniaClassifier, size: int, device: torch.device, precision: str, image_side: int) -> None:
    probe = copy.deepcopy(model).use_channels_last().to(device).train()
    # What stands beside every step: two moments of each trained weight (Adam), and an average of all weights.
    beside = [torch.empty_like(p) for p in probe.parameters() for _ in range(3 if p.requires_grad else 1)]
    generator = torch.Generator().manual_seed(0)
    stored = torch.randint(0, 256, (size, 1, image_side, image_side), dtype=torch.uint8, generator=generator)
    targets = torch.arange(size, device=device) % len(probe.labels.classes)
    with torch.autocast(device.type, dtype=_DTYPES.get(precision), enabled=precision in _DTYPES):
        images = probe.augment(stored.to(device), torch.arange(size), epoch=0, size=probe.train_size)
        loss = probe.loss(probe(images), targets)
    loss.backward()
    del beside
