from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import DictConfig, OmegaConf
from torch import Tensor

from pneumolit.data.augment import AugmentConfig, BatchAugment, Draws, resize_batch, warp_batch

_PRESETS = Path(__file__).parents[2] / "conf" / "augment"

EVERYTHING = AugmentConfig(
    crop_scale=(0.25, 1.0),
    crop_ratio=(0.75, 1.333),
    rotate_degrees=10,
    translate=0.1,
    zoom=(0.8, 1.2),
    shear_degrees=5,
    hflip=0.5,
    brightness=0.25,
    contrast=0.25,
    gamma=(0.7, 1.4),
    blur_prob=0.5,
    blur_sigma=(0.1, 1.5),
    noise_prob=0.5,
    noise_std=(0.01, 0.05),
    erase_prob=0.5,
    erase_scale=(0.05, 0.2),
    sharpen_prob=0.5,
    sharpen_amount=(0.1, 1.0),
    frame_prob=0.5,
    frame_width=(0.05, 0.2),
)

# One setting of every key, with what else it needs to show; each must change the picture alone.
ALONE: dict[str, dict[str, Any]] = {
    "crop_scale": {"crop_scale": (0.5, 0.6)},
    "crop_ratio": {"crop_scale": (0.5, 0.5), "crop_ratio": (1.3, 1.4)},
    "rotate_degrees": {"rotate_degrees": 10},
    "translate": {"translate": 0.2},
    "zoom": {"zoom": (1.2, 1.3)},
    "shear_degrees": {"shear_degrees": 10},
    "hflip": {"hflip": 1.0},
    "brightness": {"brightness": 0.3},
    "contrast": {"contrast": 0.3},
    "gamma": {"gamma": (1.3, 1.5)},
    "blur_prob": {"blur_prob": 1.0, "blur_sigma": (1.0, 1.5)},
    "blur_sigma": {"blur_prob": 1.0, "blur_sigma": (0.5, 0.6)},
    "noise_prob": {"noise_prob": 1.0, "noise_std": (0.05, 0.05)},
    "noise_std": {"noise_prob": 1.0, "noise_std": (0.02, 0.02)},
    "erase_prob": {"erase_prob": 1.0, "erase_scale": (0.1, 0.2)},
    "erase_scale": {"erase_prob": 1.0, "erase_scale": (0.3, 0.3)},
    "sharpen_prob": {"sharpen_prob": 1.0, "sharpen_amount": (0.5, 1.0)},
    "sharpen_amount": {"sharpen_prob": 1.0, "sharpen_amount": (0.2, 0.2)},
    "frame_prob": {"frame_prob": 1.0, "frame_width": (0.1, 0.2)},
    "frame_width": {"frame_prob": 1.0, "frame_width": (0.3, 0.3)},
}


def phantoms(count: int, side: int = 64) -> Tensor:
    """Smooth asymmetric blobs with some texture, `(count, 1, side, side)` uint8."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:side, 0:side] / side
    films = []
    for _ in range(count):
        cx, cy = rng.uniform(0.25, 0.45, 2)
        film = 60 + 120 * np.exp(-(((x - cx) / 0.2) ** 2) - ((y - cy) / 0.3) ** 2) + 20 * np.sin(25 * x + 9 * y)
        films.append(film + rng.normal(0, 3, film.shape))
    return torch.from_numpy(np.clip(np.stack(films), 0, 255).astype(np.uint8))[:, None]


def augment(
    config: AugmentConfig, images: Tensor, positions: Tensor | None = None, *, seed: int = 0, epoch: int = 0
) -> Tensor:
    positions = torch.arange(len(images)) if positions is None else positions
    return BatchAugment(config, seed=seed)(images, positions, epoch=epoch, size=48)


@settings(max_examples=15, deadline=None)
@given(st.lists(st.integers(1, 12), min_size=1, max_size=3), st.integers(-5, 2**63), st.integers(0, 100))
def test_an_image_is_augmented_the_same_bit_for_bit_in_every_split_into_batches(
    sizes: list[int], seed: int, epoch: int
) -> None:
    images = phantoms(sum(sizes))
    positions = torch.arange(len(images)) * 3 + 7
    whole = augment(EVERYTHING, images, positions, seed=seed, epoch=epoch)
    ends = np.cumsum(sizes).tolist()
    rows = [slice(end - size, end) for size, end in zip(sizes, ends, strict=True)]
    parts = [augment(EVERYTHING, images[r], positions[r], seed=seed, epoch=epoch) for r in rows]
    assert torch.equal(whole, torch.cat(parts))


def test_thread_count_does_not_change_a_bit() -> None:
    images, before = phantoms(2), torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = augment(EVERYTHING, images)
        torch.set_num_threads(2)
        assert torch.equal(one, augment(EVERYTHING, images))
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("change", ["seed", "epoch", "position"])
def test_the_same_image_looks_different_under_another(change: str) -> None:
    images = phantoms(1).expand(8, -1, -1, -1)
    first = augment(EVERYTHING, images)
    other = {
        "seed": lambda: augment(EVERYTHING, images, seed=1),
        "epoch": lambda: augment(EVERYTHING, images, epoch=1),
        "position": lambda: augment(EVERYTHING, images, torch.arange(8) + 8),
    }[change]()
    assert ((first - other).abs().mean(dim=(1, 2, 3)) > 0.01).all()


def test_seed_epoch_and_position_are_not_interchangeable() -> None:
    triples = [(s, e, p) for s in range(12) for e in range(12) for p in range(12)]
    values = {float(Draws(s, e, np.array([p])).uniform("rotate")[0]) for s, e, p in triples}
    assert len(values) == len(triples)


def test_draws_are_uniform_and_uncorrelated_between_parameters_and_neighbours() -> None:
    draws = Draws(0, 0, np.arange(20_000))
    a, b = draws.uniform("rotate"), draws.uniform("zoom")
    assert np.histogram(a, 10, (0, 1))[0].min() > 1_800  # 2,000 expected, standard deviation 42
    assert abs(np.corrcoef(a, b)[0, 1]) < 0.03 and abs(np.corrcoef(a[1:], a[:-1])[0, 1]) < 0.03


def test_draws_of_a_released_version_do_not_move() -> None:
    # Reordering the parameters or touching the hash would silently end the repeatability of every old run.
    found = [Draws(7, 3, np.array([11])).uniform(name)[0] for name in ("crop_area", "gamma", "erase_y")]
    np.testing.assert_allclose(
        found, [0.25946885070156356, 0.22475122822990634, 0.6712534568878927], rtol=0, atol=1e-12
    )


@pytest.mark.parametrize("key", ALONE)
def test_every_key_alone_changes_the_picture(key: str) -> None:
    images = phantoms(6)
    config = AugmentConfig(**ALONE[key])
    assert not config.is_identity
    changed = (augment(config, images) - resize_batch(images, 48)).abs().mean(dim=(1, 2, 3))
    assert (changed > 1e-3).all()


def test_every_key_is_covered_by_the_test_above() -> None:
    assert set(ALONE) == {field.name for field in fields(AugmentConfig)}


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10_000), st.booleans())
def test_values_stay_finite_and_within_0_and_1(seed: int, as_float: bool) -> None:
    wild = replace(EVERYTHING, brightness=1, contrast=1, gamma=(0.1, 10), rotate_degrees=180, zoom=(0.2, 5))
    images = torch.randint(0, 2, (4, 1, 64, 64), generator=torch.Generator().manual_seed(seed)).mul(255)
    given_images = images / 255 if as_float else images.to(torch.uint8)
    out = augment(wild, given_images, seed=seed)
    assert out.dtype == torch.float32 and out.shape == (4, 1, 48, 48)
    assert out.isfinite().all() and out.min() >= 0 and out.max() <= 1


@pytest.mark.parametrize("key", ALONE)
@pytest.mark.parametrize("as_float", [False, True])
def test_the_stored_images_are_left_as_they_are(key: str, as_float: bool) -> None:
    images = phantoms(3, 48) / 255 if as_float else phantoms(3, 48)
    before = images.clone()
    augment(AugmentConfig(**ALONE[key]), images)
    assert torch.equal(images, before)


def test_uint8_and_float_images_are_augmented_alike() -> None:
    images = phantoms(6)
    torch.testing.assert_close(augment(EVERYTHING, images), augment(EVERYTHING, images / 255), atol=1e-5, rtol=0)


def test_a_mirror_is_exact_and_comes_as_often_as_asked() -> None:
    images = phantoms(1, 48).expand(400, -1, -1, -1)
    plain = resize_batch(images[:1], 48)
    out = augment(AugmentConfig(hflip=0.3), images)
    mirrored = (out == plain.flip(-1)).flatten(1).all(dim=1)
    assert ((out == plain).flatten(1).all(dim=1) ^ mirrored).all()
    assert 85 <= int(mirrored.sum()) <= 155  # 120 expected, standard deviation 9


def test_the_mirror_works_under_geometry_too() -> None:
    images = phantoms(2)
    still = AugmentConfig(zoom=(1.1, 1.1))
    there, back = augment(still, images), augment(replace(still, hflip=1.0), images)
    torch.testing.assert_close(there, back.flip(-1), atol=1e-4, rtol=0)


def test_crops_have_the_area_and_the_shape_asked_for_and_lie_inside() -> None:
    side = 64
    ramp = torch.arange(side).float().add(0.5).div(side).expand(side, side)
    config = AugmentConfig(crop_scale=(0.3, 0.5), crop_ratio=(0.5, 2.0))
    seen = []
    for image, turn in ((ramp, False), (ramp.T, True)):
        out = augment(config, image.expand(200, 1, side, side))
        assert out.min() >= 0.5 / side - 1e-4 and out.max() <= 1 - 0.5 / side + 1e-4
        line = out[:, 0, :, 24] if turn else out[:, 0, 24, :]
        seen.append((line[:, 40] - line[:, 8]) * 48 / 32)  # inner slope: share of the side that the crop takes
    width, height = seen
    area, ratio = width * height, width / height
    assert 0.295 < area.min() < 0.32 and 0.48 < area.max() < 0.505
    assert 0.49 < ratio.min() < 0.6 and 1.7 < ratio.max() < 2.02


def test_rotation_turns_about_the_centre_without_stretching_it() -> None:
    y, x = torch.meshgrid(torch.arange(96.0) - 47.5, torch.arange(96.0) - 47.5, indexing="ij")
    bar = torch.exp(-((x / 15) ** 2) - (y / 5) ** 2)[None, None].expand(50, -1, -1, -1)
    out = BatchAugment(AugmentConfig(rotate_degrees=30), seed=0)(bar, torch.arange(50), epoch=0, size=96)[:, 0]
    mass = out.sum(dim=(1, 2))
    angle = 0.5 * torch.atan2(2 * (out * x * y).sum((1, 2)), (out * (x**2 - y**2)).sum((1, 2))).rad2deg()
    assert angle.min() < -20 and angle.max() > 20 and angle.abs().max() < 31
    assert ((out * x).sum((1, 2)) / mass).abs().max() < 0.5
    spread, before = ((film * (x**2 + y**2)).sum((1, 2)) for film in (out, bar[:, 0]))
    torch.testing.assert_close(spread, before, rtol=0.03, atol=0)


@pytest.mark.parametrize(("side", "size"), [(256, 128), (256, 224), (256, 96), (224, 128), (96, 128)])
def test_sampling_on_a_grid_is_as_sharp_as_the_resize_of_evaluation(side: int, size: int) -> None:
    images = torch.randint(0, 256, (2, 1, side, side), generator=torch.Generator().manual_seed(0))  # the worst case
    images = F.avg_pool2d(images.float() / 255, 3, stride=1, padding=1)  # a film has little at the finest scale
    wanted = F.interpolate(images, (size, size), mode="bilinear", antialias=True)
    found = warp_batch(images, np.array([[[1.0, 0, 0], [0, 1.0, 0]]] * 2), size)
    assert (found - wanted).abs().mean() * 255 < 1.5
    assert abs(found.std() / wanted.std() - 1) < 0.05


def test_sampling_is_pillows_filter_where_the_side_is_halved() -> None:
    images = torch.rand(2, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    wanted = F.interpolate(images, (128, 128), mode="bilinear", antialias=True)
    found = warp_batch(images, np.array([[[1.0, 0, 0], [0, 1.0, 0]]] * 2), 128)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], wanted[..., 1:-1, 1:-1], atol=1e-5, rtol=0)


def test_plain_sampling_without_the_prefilter_would_fail_the_sharpness_test() -> None:
    images = torch.rand(1, 1, 256, 256, generator=torch.Generator().manual_seed(0))
    grid = F.affine_grid(torch.eye(2, 3)[None], [1, 1, 96, 96], align_corners=False)
    wanted = F.interpolate(images, (96, 96), mode="bilinear", antialias=True)
    assert F.grid_sample(images, grid, align_corners=False).std() / wanted.std() > 1.5


@pytest.mark.parametrize("side", [48, 64])
def test_no_augmentation_is_the_evaluation_image_bit_for_bit(side: int) -> None:
    images = phantoms(3, side)
    assert AugmentConfig().is_identity
    assert torch.equal(augment(AugmentConfig(), images), resize_batch(images, 48))


def test_an_image_of_the_right_size_is_only_scaled() -> None:
    images = phantoms(3, 48)
    assert torch.equal(resize_batch(images, 48), images.float() / 255)


@settings(max_examples=10, deadline=None)
@given(st.integers(1, 9), st.sampled_from([(64, 48), (50, 96), (48, 48)]), st.booleans())
def test_resizing_gives_the_same_bits_in_every_split_into_batches(
    first: int, sides: tuple[int, int], as_float: bool
) -> None:
    images = phantoms(10, sides[0])
    images = images / 255 if as_float else images
    parts = [resize_batch(part, sides[1]) for part in (images[:first], images[first:])]
    assert torch.equal(resize_batch(images, sides[1]), torch.cat(parts))


def test_noise_is_normal_has_the_size_asked_for_and_differs_between_images() -> None:
    images = torch.full((4, 1, 96, 96), 0.5)
    config = AugmentConfig(noise_prob=1.0, noise_std=(0.05, 0.05))
    noise = BatchAugment(config, seed=0)(images, torch.arange(4), epoch=0, size=96).sub(0.5).div(0.05).flatten(1)
    assert noise.mean(dim=1).abs().max() < 0.05 and (noise.std(dim=1) - 1).abs().max() < 0.03
    assert (noise.abs() > 2).float().mean() == pytest.approx(0.0455, abs=0.005)
    assert (torch.corrcoef(noise) - torch.eye(4)).abs().max() < 0.05
    field = noise.view(4, 96, 96)
    below, right, half = (
        field[:, 1:] * field[:, :-1],
        field[:, :, 1:] * field[:, :, :-1],
        field[:, 48:] * field[:, :48],
    )
    assert max(abs(float(lag.mean())) for lag in (below, right, half)) < 0.03


def test_blur_has_the_width_asked_for() -> None:
    point = torch.zeros(3, 1, 65, 65)
    point[..., 32, 32] = 1.0
    config = AugmentConfig(blur_prob=1.0, blur_sigma=(1.5, 1.5))
    out = BatchAugment(config, seed=0)(point, torch.arange(3), epoch=0, size=65)[:, 0]
    offsets = torch.arange(65.0) - 32
    variance = (out.sum(dim=1) * offsets**2).sum(dim=1)
    torch.testing.assert_close(variance, torch.full((3,), 2.25), rtol=0.05, atol=0)


def test_only_the_share_of_images_asked_for_is_blurred_or_noisy() -> None:
    images = phantoms(1, 48).expand(400, -1, -1, -1)
    config = AugmentConfig(noise_prob=0.2, noise_std=(0.05, 0.05))
    touched = (augment(config, images) != resize_batch(images, 48)).flatten(1).any(dim=1)
    assert 50 <= int(touched.sum()) <= 110  # 80 expected, standard deviation 8


def test_erasing_fills_one_rectangle_of_the_area_asked_for() -> None:
    images = phantoms(20, 96)
    config = AugmentConfig(erase_prob=1.0, erase_scale=(0.2, 0.2))
    out = BatchAugment(config, seed=0)(images, torch.arange(20), epoch=0, size=96)
    changed = (out != resize_batch(images, 96))[:, 0].float().mean(dim=(1, 2))
    assert changed.min() > 0.17 and changed.max() < 0.22


def test_a_frame_covers_the_border_of_the_film_and_nothing_within() -> None:
    images = phantoms(20, 96)
    config = AugmentConfig(frame_prob=1.0, frame_width=(0.25, 0.25))
    out = BatchAugment(config, seed=0)(images, torch.arange(20), epoch=0, size=96)
    plain = resize_batch(images, 96)
    torch.testing.assert_close(out[:, :, 24:72, 24:72], plain[:, :, 24:72, 24:72], rtol=0, atol=0)
    for strip in (out[:, :, :24], out[:, :, 72:], out[..., :24], out[..., 72:]):
        levels = strip.flatten(1)
        assert torch.equal(levels.amin(1), levels.amax(1))  # one grey level
        torch.testing.assert_close(levels[:, 0], plain.mean(dim=(1, 2, 3)), rtol=0, atol=0.01)
    assert torch.equal(images, phantoms(20, 96))  # the stored ones


def test_a_frame_is_laid_before_the_crop_so_that_it_lies_where_the_film_ends() -> None:
    images = torch.full((8, 1, 64, 64), 200, dtype=torch.uint8)
    images[:, :, 8:56, 8:56] = 40  # a bright rim, as of a marker or a collimator edge
    bare = augment(AugmentConfig(crop_scale=(0.5, 0.6)), images)
    framed = augment(AugmentConfig(crop_scale=(0.5, 0.6), frame_prob=1.0, frame_width=(0.15, 0.15)), images)
    assert float(bare.amax()) > 0.7
    assert float(framed.amax()) < 0.45


def test_sharpening_widens_edges_by_the_amount_and_leaves_flat_parts_alone() -> None:
    images = torch.full((1, 1, 48, 48), 80, dtype=torch.uint8)
    images[..., 24:] = 160
    overshoots = []
    for amount in (0.5, 1.0):
        config = AugmentConfig(sharpen_prob=1.0, sharpen_amount=(amount, amount))
        out = BatchAugment(config, seed=0)(images, torch.arange(1), epoch=0, size=48)
        torch.testing.assert_close(out[..., :8], resize_batch(images, 48)[..., :8])
        overshoots.append(float(out.amax()) - 160 / 255)
    assert overshoots[0] > 0.02
    assert overshoots[1] == pytest.approx(2 * overshoots[0], rel=0.01)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("crop_scale", (0.0, 1.0)),
        ("crop_scale", (0.8, 1.2)),
        ("crop_scale", (0.9, 0.5)),
        ("crop_scale", 0.5),
        ("crop_scale", "ab"),
        ("crop_ratio", (0.0, 1.0)),
        ("rotate_degrees", -1),
        ("rotate_degrees", 181),
        ("rotate_degrees", [0, 10]),
        ("translate", 1.0),
        ("zoom", (0.0, 1.0)),
        ("shear_degrees", 90),
        ("hflip", 1.5),
        ("hflip", True),
        ("brightness", -0.1),
        ("contrast", 1.1),
        ("contrast", float("nan")),
        ("gamma", (0.0, 1.0)),
        ("gamma", None),
        ("blur_prob", 2),
        ("blur_sigma", (-1, 1)),
        ("noise_prob", -0.5),
        ("noise_std", (0, 14)),
        ("erase_prob", 1.01),
        ("erase_scale", (0.1, 1.0)),
        ("sharpen_prob", -0.1),
        ("sharpen_amount", (0.0, 6.0)),
        ("frame_prob", 2),
        ("frame_width", (0.0, 0.5)),
    ],
)
def test_a_value_out_of_range_is_refused_and_named(key: str, value: Any) -> None:
    with pytest.raises(ValueError, match=rf"augment\.{key} must be .* got "):
        AugmentConfig(**{key: value})


@pytest.mark.parametrize(
    ("prob", "amount"),
    [
        ("blur_prob", "blur_sigma"),
        ("noise_prob", "noise_std"),
        ("erase_prob", "erase_scale"),
        ("sharpen_prob", "sharpen_amount"),
        ("frame_prob", "frame_width"),
    ],
)
def test_a_probability_of_an_amount_of_0_is_refused_since_it_would_change_nothing(prob: str, amount: str) -> None:
    with pytest.raises(ValueError, match=rf"augment\.{prob}=0\.5 has no effect while augment\.{amount} is \[0, 0\]"):
        replace(AugmentConfig(), **cast(Any, {prob: 0.5, amount: (0.0, 0.0)})).refuse_idle()
    replace(AugmentConfig(), **cast(Any, {prob: 0.5, amount: (0.0, 0.1)})).refuse_idle()


@pytest.mark.parametrize("preset", sorted(_PRESETS.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_preset_lists_every_key_and_is_valid(preset: Path) -> None:
    loaded = cast(DictConfig, OmegaConf.load(preset))
    keys = {str(key) for key in loaded} - {
        "mixup_alpha",
        "cutmix_alpha",
    }  # belongs to the training step, not to the images
    assert keys == {field.name for field in fields(AugmentConfig)}
    config = AugmentConfig(**{key: loaded[key] for key in keys})  # with ListConfig, as Hydra gives it
    assert config.is_identity == (preset.stem == "none")


@pytest.mark.parametrize("shape", [(3, 64, 64), (3, 3, 64, 64)])
def test_a_batch_of_another_shape_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"images must be \(B, 1, H, W\)"):
        augment(AugmentConfig(), torch.zeros(shape))


def test_positions_that_do_not_match_the_batch_are_refused() -> None:
    with pytest.raises(ValueError, match=r"positions must be \(3,\)"):
        augment(EVERYTHING, phantoms(3), torch.arange(2))


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_gpu_gives_the_same_images_as_the_cpu() -> None:
    images = phantoms(8)
    on_gpu = augment(EVERYTHING, images.cuda()).cpu()
    torch.testing.assert_close(on_gpu, augment(EVERYTHING, images), atol=1e-4, rtol=0)
