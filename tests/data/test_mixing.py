"""Mixing in pairs: the share is what is in the image, and it depends on seed, epoch and batch alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from pneumolit.data.mixing import Mix, apply_mix, draw_mix

ALPHAS = st.floats(0.1, 4)
PLACES = st.tuples(st.integers(0, 2**32 - 1), st.integers(0, 99), st.integers(0, 999))


def draw(count: int, mixup: float, cutmix: float, place: tuple[int, int, int] = (0, 0, 0)) -> Mix:
    seed, epoch, batch = place
    mix = draw_mix(count, mixup_alpha=mixup, cutmix_alpha=cutmix, seed=seed, epoch=epoch, batch=batch)
    assert mix is not None
    return mix


def test_nothing_is_mixed_without_an_alpha() -> None:
    assert draw_mix(4, mixup_alpha=0.0, cutmix_alpha=0.0, seed=0, epoch=0, batch=0) is None


@given(ALPHAS, st.integers(1, 64), PLACES)
def test_mixup_alone_draws_beta_and_then_the_partners(alpha: float, count: int, place: tuple[int, int, int]) -> None:
    mix = draw(count, alpha, 0.0, place)
    rng = np.random.default_rng([*place, 0x6D69])
    assert mix.box is None
    assert mix.share == float(rng.beta(alpha, alpha))
    assert mix.order.tolist() == rng.permutation(count).tolist()


def test_a_known_draw_stays_as_it_is() -> None:
    mix = draw(6, 1.0, 0.0, (5, 2, 3))
    assert mix.share == pytest.approx(0.39935305411247446)
    assert mix.order.tolist() == [4, 2, 0, 3, 1, 5]


@given(ALPHAS, ALPHAS, st.booleans(), PLACES)
def test_a_draw_depends_on_its_place_alone(
    mixup: float, cutmix: float, is_both: bool, place: tuple[int, int, int]
) -> None:
    before = np.random.get_state()[1].copy(), torch.get_rng_state()  # type: ignore[index]  # noqa: NPY002
    first = draw(9, mixup if is_both else 0.0, cutmix, place)
    assert np.array_equal(np.random.get_state()[1], before[0])  # type: ignore[index]  # noqa: NPY002
    assert torch.equal(torch.get_rng_state(), before[1])
    again = draw(9, mixup if is_both else 0.0, cutmix, place)
    assert (first.share, first.box, first.order.tolist()) == (again.share, again.box, again.order.tolist())
    seed, epoch, batch = place
    for other in ((seed ^ 1, epoch, batch), (seed, epoch + 1, batch), (seed, epoch, batch + 1)):
        assert draw(9, 0.0, 1.0, other).share != draw(9, 0.0, 1.0, place).share


@given(ALPHAS, st.integers(1, 40), st.integers(1, 70), PLACES)
def test_the_share_is_exactly_what_is_left_of_every_image(
    alpha: float, count: int, size: int, place: tuple[int, int, int]
) -> None:
    mix = draw(count, 0.0, alpha, place)
    # Image i has grey value i everywhere, so the mean tells how much of whom is in it.
    values = torch.arange(count, dtype=torch.float64)
    mixed = apply_mix(values.view(-1, 1, 1, 1).expand(-1, 1, size, size), mix)
    expected = mix.share * values + (1 - mix.share) * values[mix.order]
    assert torch.allclose(mixed.mean((1, 2, 3)), expected, rtol=0, atol=1e-9 * count)


@given(ALPHAS, PLACES)
def test_the_box_lies_inside_and_its_area_is_the_partners_share(alpha: float, place: tuple[int, int, int]) -> None:
    mix = draw(4, 0.0, alpha, place)
    assert mix.box is not None
    top, left, height, width = mix.box
    assert 0 <= top <= top + height <= 1 + 1e-12 and 0 <= left <= left + width <= 1 + 1e-12
    assert 1 - mix.share == pytest.approx(height * width)
    drawn = float(np.random.default_rng([*place, 0x6D69]).beta(alpha, alpha))
    assert mix.share >= drawn - 1e-12  # cut off at the border, never enlarged
    if top > 0 and left > 0 and top + height < 1 and left + width < 1:
        assert mix.share == pytest.approx(drawn) and height == pytest.approx(width)


def test_boxes_reach_every_border_and_are_cut_off_there() -> None:
    boxes = np.array([draw(2, 0.0, 1.0, (0, 0, batch)).box for batch in range(400)])
    assert (boxes[:, :2] == 0).any(axis=0).all() and (boxes[:, :2] + boxes[:, 2:] == 1).any(axis=0).all()
    centres = (boxes[:, :2] + boxes[:, 2:] / 2)[boxes[:, 2] < 0.2]
    assert centres.min() < 0.15 and centres.max() > 0.85


def test_inside_the_box_is_the_partner_and_outside_the_image_itself() -> None:
    images = torch.rand(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    order = torch.tensor([1, 2, 0])
    mixed = apply_mix(images, Mix(1 - 0.5 * 0.25, order, (0.25, 0.5, 0.5, 0.25)))
    inside = torch.zeros(8, 8, dtype=torch.bool)
    inside[2:6, 4:6] = True
    assert torch.equal(mixed[..., inside], images[order][..., inside])
    assert torch.equal(mixed[..., ~inside], images[..., ~inside])


def test_a_pixel_that_the_box_covers_in_part_is_mixed_in_part() -> None:
    images = torch.tensor([0.0, 1.0]).view(2, 1, 1, 1).repeat(1, 1, 4, 4)
    mixed = apply_mix(images, Mix(1 - 0.375, torch.tensor([1, 0]), (0.0, 0.0, 1.0, 0.375)))
    assert mixed[0, 0, 0].tolist() == [1.0, 0.5, 0.0, 0.0]


def test_mixup_is_the_weighted_mean_of_a_pair() -> None:
    images = torch.rand(4, 1, 5, 5, generator=torch.Generator().manual_seed(0))
    order = torch.tensor([2, 0, 3, 1])
    mixed = apply_mix(images, Mix(0.3, order))
    for i, partner in enumerate(order.tolist()):
        assert torch.allclose(mixed[i], 0.3 * images[i] + 0.7 * images[partner])


@given(ALPHAS, st.booleans(), PLACES)
def test_an_image_depends_on_itself_and_its_partner_alone(
    alpha: float, is_cutmix: bool, place: tuple[int, int, int]
) -> None:
    images = torch.rand(5, 1, 6, 6, generator=torch.Generator().manual_seed(0))
    kept = images.clone()
    mix = draw(5, 0.0 if is_cutmix else alpha, alpha if is_cutmix else 0.0, place)
    mixed = apply_mix(images, mix)
    assert torch.equal(images, kept)
    for i, partner in enumerate(mix.order.tolist()):
        pair = Mix(mix.share, torch.tensor([1, 0]), mix.box)
        assert torch.equal(apply_mix(images[[i, partner]], pair)[0], mixed[i])


def test_with_both_alphas_half_of_the_batches_are_cutmix() -> None:
    share = np.mean([draw(2, 0.4, 1.0, (0, 0, batch)).box is not None for batch in range(1000)])
    assert abs(share - 0.5) < 0.05  # three standard deviations


def test_each_kind_keeps_its_own_alpha_where_both_are_mixed() -> None:
    mixes = [draw(2, 1000.0, 0.01, (0, 0, batch)) for batch in range(200)]
    assert all(abs(mix.share - 0.5) < 0.1 for mix in mixes if mix.box is None)  # Beta(1000, 1000) is narrow
    # Beta(0.01, 0.01) is next to 0 or 1, and a box next to 0 is not cut to a share of .99.
    assert 0.3 < np.mean([mix.share > 0.99 for mix in mixes if mix.box is not None]) < 0.7
