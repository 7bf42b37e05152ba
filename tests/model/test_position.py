"""Position tables at another image size: the values of a smooth table stay where they belong."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from pneumolit.model.position import resample_tables


def resampled(table: Tensor, *shape: int, name: str = "pos_embed") -> Tensor:
    """`table` under a name, brought to a model's shape."""
    model = nn.Module()
    model.register_parameter(name, nn.Parameter(torch.zeros(shape)))
    return resample_tables({name: table}, model)[name]


def plane(side: int) -> Tensor:
    """A tilted plane over the unit square, sampled at the centres of a grid: `(side, side)`."""
    centres = (torch.arange(side) + 0.5) / side
    return 3 * centres[:, None] + centres[None, :]


def assert_same_inside(found: Tensor, expected: Tensor) -> None:
    """Equal but near the border, where interpolation has no neighbours."""
    torch.testing.assert_close(found[2:-2, 2:-2], expected[2:-2, 2:-2], atol=0.02, rtol=0)


@pytest.mark.parametrize("prefix", [0, 1, 2])
def test_tokens_of_a_grid_are_resampled_and_class_tokens_kept(prefix: int) -> None:
    special = torch.full((1, prefix, 1), 9.0)
    table = torch.cat([special, plane(14).reshape(1, -1, 1)], 1)
    new = resampled(table, 1, prefix + 8 * 8, 1)
    assert torch.equal(new[:, :prefix], special)
    assert_same_inside(new[0, prefix:, 0].reshape(8, 8), plane(8))


def test_maps_are_resampled_in_both_layouts() -> None:
    table = plane(14)[None, None].expand(1, 5, 14, 14)
    assert_same_inside(resampled(table, 1, 5, 9, 9, name="pos_embed2")[0, 3], plane(9))
    last = table.permute(0, 2, 3, 1)
    assert_same_inside(resampled(last, 1, 9, 9, 5)[0, :, :, 3], plane(9))


@pytest.mark.parametrize("extra", [0, 3])
def test_bias_of_a_window_grows_and_its_centre_stays(extra: int) -> None:
    table = torch.randn(13 * 13, 2)
    rows = torch.cat([table, torch.full((extra, 2), 7.0)])
    new = resampled(rows, 15 * 15 + extra, 2, name="relative_position_bias_table")
    torch.testing.assert_close(new[(15 * 15) // 2], table[(13 * 13) // 2])  # no offset in either window
    assert torch.equal(new[15 * 15 :], rows[13 * 13 :])
    grid = resampled(table.T.reshape(2, 13, 13), 2, 15, 15, name="relative_position_bias_table")
    torch.testing.assert_close(grid, new[: 15 * 15].T.reshape(2, 15, 15))


def test_line_of_offsets_and_bias_by_distance_are_resampled() -> None:
    line = torch.linspace(0, 1, 27)[:, None].expand(27, 4)
    new = resampled(line, 13, 4, name="rel_pos_h")
    assert (new.diff(dim=0) > 0).all() and new[6, 0] == pytest.approx(0.5)
    assert_same_inside(resampled(plane(14).reshape(1, -1), 1, 64, name="attention_biases").reshape(8, 8), plane(8))


@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        ("weight", (49, 49), (16, 16)),  # mixes tokens: learned for one size
        ("pos_embed", (1, 196, 8), (1, 49, 6)),  # another width
        ("pos_embed", (1, 200, 8), (1, 49, 8)),  # no square
        ("pos_embed", (1, 16, 196, 8), (1, 4, 196, 8)),  # blocks of places are neither layout of a map
        ("pos_embed", (196, 8), (1, 49, 8)),
        ("relative_position_bias_table", (168, 2), (225, 2)),
    ],
)
def test_what_cannot_be_resampled_is_handed_back_as_it_was(
    name: str, old: tuple[int, ...], new: tuple[int, ...]
) -> None:
    table = torch.randn(old)
    assert resampled(table, *new, name=name) is table


def test_table_that_fits_and_unknown_names_stay_the_very_same_tensors() -> None:
    model = nn.Linear(3, 2)
    state = {"weight": torch.randn(2, 3), "other": torch.randn(4)}
    out = resample_tables(state, model)
    assert set(out) == set(state) and all(out[k] is v for k, v in state.items())
