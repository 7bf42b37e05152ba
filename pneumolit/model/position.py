"""Tables of positions that belong to one image size, resampled for another."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

from torch import Tensor, nn
from torch.nn import functional as F


def resample_tables(state: Mapping[str, Tensor], model: nn.Module) -> dict[str, Tensor]:
    """Bring the position tables of a state to the shapes that a model of another image size has.

    Args:
        state: tensors by name, as a model of the same architecture has them at any square image size.
        model: built for the size wanted.

    Returns:
        A copy of `state` in which every table that differs in shape, and that can be resampled, has the model's
        shape. All else is the very tensor that was given, whether it fits or not.
    """
    own = model.state_dict()
    out = dict(state)
    for name, value in state.items():
        if name not in own or own[name].shape == value.shape or own[name].ndim != value.ndim:
            continue
        leaf = name.rpartition(".")[2].rstrip("_0123456789")
        resampled = _RULES[leaf](value, own[name].shape) if leaf in _RULES else None
        if resampled is not None and resampled.shape == own[name].shape:
            out[name] = resampled
    return out


def _tokens_or_map(table: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """An embedding per position: tokens `([1,] N, C)`, or a map `(1, C, H, W)` or `(1, H, W, C)`."""
    from timm.layers.pos_embed import resample_abs_pos_embed

    if table.ndim == 4:
        # Squares only: NesT's (1, blocks, places, C) is neither layout.
        if table.shape[:2] == shape[:2] and table.shape[2] == table.shape[3]:
            return _resize(table, shape[2:])
        if table.shape[3] == shape[3] and table.shape[1] == table.shape[2]:
            return _resize(table.permute(0, 3, 1, 2), shape[1:3]).permute(0, 2, 3, 1).contiguous()
        return None
    if table.ndim not in (2, 3) or table.shape[-1] != shape[-1]:
        return None
    # Class and distillation tokens stand before the square grid and keep theirs.
    for prefix in (0, 1, 2):
        side, old = math.isqrt(shape[-2] - prefix), math.isqrt(table.shape[-2] - prefix)
        if side**2 + prefix == shape[-2] and old**2 + prefix == table.shape[-2]:
            tokens = table.reshape(1, *table.shape[-2:])
            new: Tensor = resample_abs_pos_embed(tokens, [side, side], [old, old], num_prefix_tokens=prefix)
            return new.reshape(shape)
    return None


def _window_bias(table: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """A bias per relative position in a window of side w: `((2w - 1)^2 [+ 3], heads)` or `(heads, 2w - 1, 2w - 1)`."""
    from timm.layers.pos_embed_rel import resize_rel_pos_bias_table

    if table.ndim == 3:
        window = ((shape[1] + 1) // 2, (shape[2] + 1) // 2)
    else:
        # BEiT has three more rows, for what concerns its class token.
        extra = next((n for n in (0, 3) if all(_is_odd_square(rows - n) for rows in (shape[0], table.shape[0]))), None)
        if extra is None:
            return None
        window = ((math.isqrt(shape[0] - extra) + 1) // 2,) * 2
    new: Tensor = resize_rel_pos_bias_table(table, new_window_size=window, new_bias_shape=shape)
    return new


def _distance_bias(table: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """A bias per absolute distance on a grid, `(heads, side^2)`."""
    if table.ndim != 2 or any(math.isqrt(n) ** 2 != n for n in (shape[1], table.shape[1])):
        return None
    grid = table.reshape(1, len(table), math.isqrt(table.shape[1]), -1)
    side = math.isqrt(shape[1])
    return _resize(grid, (side, side)).reshape(shape)


def _line(table: Tensor, shape: tuple[int, ...]) -> Tensor | None:
    """An embedding per relative position along one axis, `(2w - 1, C)`."""
    if table.ndim != 2 or table.shape[1] != shape[1]:
        return None
    return F.interpolate(table.T[None], size=shape[0], mode="linear")[0].T.contiguous()


def _resize(maps: Tensor, size: tuple[int, ...]) -> Tensor:
    return F.interpolate(maps, size=tuple(size), mode="bicubic", antialias=True)


def _is_odd_square(count: int) -> bool:
    return count > 0 and math.isqrt(count) ** 2 == count and count % 2 == 1


# By the last part of a tensor's name, trailing digits aside. Other tensors whose shape follows the image size
# (token mixing, flattened maps) are learned for one size and have no rule.
_RULES: dict[str, Callable[[Tensor, tuple[int, ...]], Tensor | None]] = {
    "pos_embed": _tokens_or_map,
    "patch_pos": _tokens_or_map,
    "relative_position_bias_table": _window_bias,
    "attention_biases": _distance_bias,
    "rel_pos_h": _line,
    "rel_pos_w": _line,
    "height_rel": _line,
    "width_rel": _line,
}
