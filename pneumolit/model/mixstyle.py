"""MixStyle: while training, films take over part of each other's feature statistics, which carry a film's style."""

from __future__ import annotations

from itertools import chain
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Beta

from pneumolit.data.sending import send
from pneumolit.model.freeze import FreezePlan, head_parameter_names
from pneumolit.model.layers import coarse_groups, covering_paths, evaluating

_STRIDES = (4, 8)  # where ResNet's first and second stage end, behind which the paper mixes
_ALPHA = 0.1  # of the Beta distribution of the share, the paper's: mostly near 0 or 1
_EPSILON = 1e-6  # added to the variance of a channel


def attach_mixstyle(model: nn.Module, probability: float, *, image_shape: tuple[int, int, int]) -> None:
    """Let the statistics of early feature maps be mixed between the images of every training batch.

    Mixed are the last maps at a quarter and at an eighth of the image's side. In eval mode nothing changes; frozen
    parts, which are in eval always, mix nothing. Numbers are drawn from torch's generator, as dropout's are.

    Args:
        model: a timm model, its frozen parts in eval mode.
        probability: of each image to be mixed, 0 to 1; 0 attaches nothing.
        image_shape: (channels, height, width) of its input.

    Raises:
        ValueError: the model has no such maps; names `model.mixstyle_prob`.

    Source:
        Zhou et al., Domain Generalization with MixStyle, ICLR 2021.
    """
    if not probability:
        return
    modules = _ends_of_early_stages(model, image_shape)
    if not modules:
        raise ValueError(
            f"model.mixstyle_prob={probability:g} needs feature maps (channels before places) at a quarter or an "
            f"eighth of the image's side, which {type(model).__name__} does not have; set model.mixstyle_prob=0"
        )
    for module in modules:
        module.register_forward_hook(_Mixing(probability, model))


def can_mix(model: nn.Module, plan: FreezePlan, *, image_shape: tuple[int, int, int]) -> bool:
    """Whether any of the maps that are mixed comes from layers that train; what is frozen is in eval mode always."""
    paths = {module: path for path, module in model.named_modules()}
    ends = [paths[module] for module in _ends_of_early_stages(model, image_shape)]
    return any(not any(f"{end}.".startswith(f"{still}.") for still in plan.still_modules) for end in ends)


class _Mixing:
    """Hook of a module whose output `(B, C, H, W)` is mixed in training mode; a class, so that models can be copied.

    Of the whole model, too: a module may be a batch norm, which trains alone where its statistics are estimated.
    """

    def __init__(self, probability: float, model: nn.Module) -> None:
        self.probability, self.model = probability, model

    def __call__(self, module: nn.Module, inputs: Any, output: Tensor) -> Tensor:
        is_mixed = module.training and self.model.training and len(output) > 1
        return mix_styles(output, self.probability) if is_mixed else output


def mix_styles(maps: Tensor, probability: float) -> Tensor:
    """Maps whose channel means and deviations are in part those of another image of the batch.

    Args:
        maps: `(B, C, H, W)` float.
        probability: of each image to be mixed.

    Returns:
        `(B, C, H, W)` of the same dtype; the statistics carry no gradient, as in the paper.
    """
    with torch.no_grad():
        variance, mean = torch.var_mean(maps.float(), dim=(2, 3), keepdim=True)
        deviation = (variance + _EPSILON).sqrt()
        # Drawn beside the CPU and sent, so that a GPU need not wait.
        share = Beta(_ALPHA, _ALPHA, validate_args=False).sample((len(maps), 1, 1, 1))
        is_mixed = torch.rand(len(maps), 1, 1, 1) < probability
        share = send(torch.where(is_mixed, share, torch.ones_like(share)), maps.device)
        partner = send(torch.randperm(len(maps)), maps.device)
        scale = share + (1 - share) * deviation[partner] / deviation
        shift = share * mean + (1 - share) * mean[partner] - mean * scale
    return maps * scale.to(maps.dtype) + shift.to(maps.dtype)


def _ends_of_early_stages(model: nn.Module, image_shape: tuple[int, int, int]) -> list[nn.Module]:
    """The last module of a coarse group at each of `_STRIDES`, front to back."""
    head = head_parameter_names(model)
    groups = coarse_groups(model, head)
    names = list(chain.from_iterable(groups))
    ends = [covering_paths(group, names)[-1] for group in groups]
    sizes: dict[str, tuple[int, ...]] = {}

    def note(name: str) -> Any:
        return lambda module, inputs, output: sizes.update({name: tuple(output.shape)})

    found = {name: model.get_submodule(name) for name in ends if name in dict(model.named_modules())}
    handles = [module.register_forward_hook(note(name)) for name, module in found.items()]
    parameter = next(model.parameters())
    try:
        with evaluating(model), torch.no_grad():
            model(torch.zeros(1, *image_shape, device=parameter.device, dtype=parameter.dtype))
    finally:
        for handle in handles:
            handle.remove()
    chosen = []
    for stride in _STRIDES:
        wanted = tuple(-(-side // stride) for side in image_shape[1:])
        fitting = [name for name in ends if len(sizes.get(name, ())) == 4 and sizes[name][2:] == wanted]
        chosen += fitting[-1:]
    return [found[name] for name in chosen]
