"""Per-image random geometry and intensity, whole batch at once, on the device.

Every image gets its own parameters, drawn from (seed, epoch, position) by a counter-based generator, so they
depend on no batch split, worker, rank or device. Neither Kornia nor torchvision.v2 draws from given places,
and both resample twice, for the crop and for the affine map.

Measured with benchmarks/augment.py (one thread of a shared 2-core EPYC, torch 2.15, 32 images of 256 px;
crop + affine + mirror + brightness / contrast): to 128 px 7 ms, Kornia 0.9 19, torchvision.v2 image by
image 19; to 224 px 12, 49, 38. All of preset `strong`: 9 and 20 ms; the resize of evaluation: 4 and 6 ms.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from pneumolit.data.sending import send

# Every random number of an image has its own counter; append, never reorder, or old runs cannot be repeated.
_DRAWS = (
    *("crop_area", "crop_ratio", "crop_x", "crop_y", "rotate", "translate_x", "translate_y", "zoom", "shear"),
    *("hflip", "brightness", "contrast", "gamma", "blur", "blur_sigma", "noise", "noise_std", "noise_key"),
    *("erase", "erase_area", "erase_ratio", "erase_x", "erase_y"),
    *("sharpen", "sharpen_amount", "frame", "frame_left", "frame_top", "frame_right", "frame_bottom"),
)
_COUNTER = {name: i for i, name in enumerate(_DRAWS)}

_GOLDEN = 0x9E3779B97F4A7C15  # increment of splitmix64
_MASK32 = 0xFFFFFFFF
_CPU_CHUNK = 4  # images at a time on the CPU: 1 MB at 256 px stays in cache; 1 to 32 tried
_SHARPEN_SIGMA = 1.0  # pixels of the output; about the width of a vessel edge at 96 to 128 px
_ERASE_RATIO = (0.5, 2.0)  # height to width of an erased rectangle; neither a line nor always a square

# Allowed values; outside them a film is no longer a film, or the number was meant in another unit.
_NUMBERS = {
    "rotate_degrees": (0.0, 180.0),
    "translate": (0.0, 0.9),
    "shear_degrees": (0.0, 60.0),
    "hflip": (0.0, 1.0),
    "brightness": (0.0, 1.0),
    "contrast": (0.0, 1.0),
    "blur_prob": (0.0, 1.0),
    "noise_prob": (0.0, 1.0),
    "erase_prob": (0.0, 1.0),
    "sharpen_prob": (0.0, 1.0),
    "frame_prob": (0.0, 1.0),
}
_RANGES = {
    "crop_scale": (0.01, 1.0),
    "crop_ratio": (0.1, 10.0),
    "zoom": (0.2, 5.0),
    "gamma": (0.1, 10.0),
    "blur_sigma": (0.0, 10.0),
    "noise_std": (0.0, 0.5),
    "erase_scale": (0.0, 0.9),
    "sharpen_amount": (0.0, 5.0),
    "frame_width": (0.0, 0.4),
}
_AMOUNT_OF = {
    "blur_prob": "blur_sigma",
    "noise_prob": "noise_std",
    "erase_prob": "erase_scale",
    "sharpen_prob": "sharpen_amount",
    "frame_prob": "frame_width",
}


@dataclass(frozen=True)
class AugmentConfig:
    """Plain values of the group `augment`; the defaults change nothing.

    Attributes:
        crop_scale: area fraction of the random resized crop, uniform in this range; (1, 1) is no crop.
        crop_ratio: width to height of the crop, log-uniform in the part of this range that fits inside.
        rotate_degrees: angle uniform in +- this, about the centre of the crop.
        translate: shift along each axis, uniform in +- this fraction of the side.
        zoom: magnification, log-uniform in this range; above 1 enlarges.
        shear_degrees: horizontal shear, uniform in +- this.
        hflip: probability of a mirror image.
        brightness: factor on all grey values, uniform in 1 +- this.
        contrast: factor on the distance to the image's mean, uniform in 1 +- this.
        gamma: exponent on grey values in [0, 1], log-uniform in this range.
        blur_prob: probability of a Gaussian blur.
        blur_sigma: its standard deviation, uniform in this range, in pixels of the output.
        noise_prob: probability of white Gaussian noise.
        noise_std: its standard deviation, uniform in this range, where white is 1.
        erase_prob: probability that one rectangle is filled with the image's mean.
        erase_scale: its area fraction, uniform in this range.
        sharpen_prob: probability of an unsharp mask.
        sharpen_amount: how much of the difference to a blurred copy (standard deviation 1 pixel of the output) is
            added, uniform in this range.
        frame_prob: probability that a frame of the whole film, where markers and collimator edges lie, is filled with
            its mean before anything is cropped.
        frame_width: width of the frame at each of the four sides, a fraction of the side, uniform in this range.

    Raises:
        ValueError: a value is no number, out of range, or a range runs backwards; names `augment.<key>`.
    """

    crop_scale: tuple[float, float] = (1.0, 1.0)
    crop_ratio: tuple[float, float] = (1.0, 1.0)
    rotate_degrees: float = 0.0
    translate: float = 0.0
    zoom: tuple[float, float] = (1.0, 1.0)
    shear_degrees: float = 0.0
    hflip: float = 0.0
    brightness: float = 0.0
    contrast: float = 0.0
    gamma: tuple[float, float] = (1.0, 1.0)
    blur_prob: float = 0.0
    blur_sigma: tuple[float, float] = (0.0, 0.0)
    noise_prob: float = 0.0
    noise_std: tuple[float, float] = (0.0, 0.0)
    erase_prob: float = 0.0
    erase_scale: tuple[float, float] = (0.0, 0.0)
    sharpen_prob: float = 0.0
    sharpen_amount: tuple[float, float] = (0.0, 0.0)
    frame_prob: float = 0.0
    frame_width: tuple[float, float] = (0.0, 0.0)

    def __post_init__(self) -> None:
        for field in fields(self):
            is_range = field.name in _RANGES
            value = _numbers(getattr(self, field.name), 2 if is_range else 1)
            low, high = (_RANGES if is_range else _NUMBERS)[field.name]
            if value is None or not low <= value[0] <= value[-1] <= high:
                wanted = "two numbers, the smaller first, each" if is_range else "a number"
                raise ValueError(
                    f"augment.{field.name} must be {wanted} from {low:g} to {high:g}, "
                    f"got {getattr(self, field.name)}; conf/augment/none.yaml has what changes nothing"
                )
            object.__setattr__(self, field.name, value if is_range else value[0])

    @property
    def has_geometry(self) -> bool:
        """Whether pixels move other than by the mirror; at crop area 1 `crop_ratio` has no effect."""
        return bool(
            self.crop_scale != (1.0, 1.0)
            or self.zoom != (1.0, 1.0)
            or self.rotate_degrees
            or self.translate
            or self.shear_degrees
        )

    @property
    def has_tone(self) -> bool:
        """Whether grey values are mapped by a curve."""
        return bool(self.brightness or self.contrast or self.gamma != (1.0, 1.0))

    @property
    def is_identity(self) -> bool:
        """Whether every image comes out exactly as `resize_batch` gives it."""
        blurs = self.blur_prob and self.blur_sigma[1]
        noises = self.noise_prob and self.noise_std[1]
        erases = (self.erase_prob and self.erase_scale[1]) or (self.frame_prob and self.frame_width[1])
        sharpens = self.sharpen_prob and self.sharpen_amount[1]
        return not (self.has_geometry or self.hflip or self.has_tone or blurs or noises or erases or sharpens)

    def refuse_idle(self) -> None:
        """Refuse what is asked for and would change nothing; a model that was trained so can be loaded all the same.

        Raises:
            ValueError: a probability is above 0 and its amount is 0; names both.
        """
        for prob, amount in _AMOUNT_OF.items():
            if getattr(self, prob) and not getattr(self, amount)[1]:
                raise ValueError(
                    f"augment.{prob}={getattr(self, prob):g} has no effect while augment.{amount} is [0, 0]; "
                    f"conf/augment/light.yaml has an augment.{amount} to begin with"
                )


class BatchAugment:
    """Augments whole batches; holds no state, so equal arguments give equal images at any time and place.

    Args:
        config: what to draw.
        seed: the run's seed; any integer.
    """

    def __init__(self, config: AugmentConfig, *, seed: int) -> None:
        self.config = config
        self.seed = seed

    @torch.no_grad()
    def __call__(self, images: Tensor, positions: Tensor, *, epoch: int, size: int) -> Tensor:
        """Augment and resize a batch.

        Args:
            images: `(B, 1, H, W)` uint8, or float in [0, 1]; left as they are.
            positions: `(B,)` int64, place of each image in the epoch's global order; an image that is sampled
                twice has two positions. Best on the CPU: no wait for the device.
            epoch: counts from 0.
            size: side of the output in pixels.

        Returns:
            `(B, 1, size, size)` float32 in [0, 1] on the device of `images`.

        Raises:
            ValueError: the shapes do not fit.
        """
        _check_images(images)
        if positions.shape != images.shape[:1]:
            raise ValueError(f"positions must be ({len(images)},), one per image, got {tuple(positions.shape)}")
        config, draws = self.config, Draws(self.seed, epoch, positions.cpu().numpy())
        mirrored = draws.happens("hflip", config.hflip)
        if config.frame_prob:
            images = _framed(images, draws, config)
        if config.has_geometry:
            out = warp_batch(images, _source_maps(config, draws, mirrored), size)
        else:  # the very filter of evaluation, so that an image without geometry is as sharp as there
            out = resize_batch(images, size)
            rows = send(torch.from_numpy(np.flatnonzero(mirrored)), out.device)
            out[rows] = out[rows].flip(-1)
        if config.blur_prob:
            _blur(out, draws, config)
        if config.sharpen_prob:
            _sharpen(out, draws, config)
        if config.has_tone:
            _change_tone(out, draws, config)
        if config.noise_prob:
            _add_noise(out, draws, config)
        if config.erase_prob:
            _erase(out, draws, config)
        return out.clamp_(0.0, 1.0)


class Draws:
    """The random numbers of a batch: splitmix64 over (seed, epoch, position), one counter per parameter.

    Args:
        seed: any integer.
        epoch: any integer.
        positions: `(B,)` int64.

    Source:
        Steele, Lea, Flood, Fast splittable pseudorandom number generators, OOPSLA 2014.
    """

    def __init__(self, seed: int, epoch: int, positions: np.ndarray) -> None:
        state = np.zeros(len(positions), dtype=np.uint64)
        for word in (_words([seed]), _words([epoch]), np.asarray(positions, dtype=np.int64).view(np.uint64)):
            state = _mix(state ^ word)
        # All at once: a call for each would take longer than what it computes.
        self._bits: np.ndarray = _mix(state + _words([counter * _GOLDEN for counter in _COUNTER.values()])[:, None])
        self._uniform: np.ndarray = (self._bits >> np.uint64(11)) * 2.0**-53

    def bits(self, name: str) -> np.ndarray:
        """`(B,)` uint64, 64 random bits per image."""
        return np.asarray(self._bits[_COUNTER[name]])

    def uniform(self, name: str, low: float = 0.0, high: float = 1.0) -> np.ndarray:
        """`(B,)` float64 in [low, high)."""
        return np.asarray(low + (high - low) * self._uniform[_COUNTER[name]])

    def log_uniform(self, name: str, low: np.ndarray | float, high: np.ndarray | float) -> np.ndarray:
        """`(B,)` float64 between low and high > 0, as often below as above their geometric mean."""
        return np.asarray(low * (np.asarray(high) / low) ** self.uniform(name))

    def happens(self, name: str, probability: float) -> np.ndarray:
        """`(B,)` bool."""
        return self.uniform(name) < probability


@torch.no_grad()
def resize_batch(images: Tensor, size: int) -> Tensor:
    """Resize as evaluation sees images: bilinear, antialiased, same bits for every split into batches.

    Args:
        images: `(B, 1, H, W)` uint8, or float in [0, 1].
        size: side of the output in pixels.

    Returns:
        `(B, 1, size, size)` float32 in [0, 1], never the memory of `images`; equal size only scales.
    """
    _check_images(images)
    if images.shape[-2:] == (size, size):
        return _to_unit(images.to(torch.float32, copy=True), images.dtype)
    out = torch.empty(len(images), 1, size, size, device=images.device)
    for rows in _chunks(images):
        part = images[rows].to(torch.float32)
        out[rows] = F.interpolate(part, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return _to_unit(out, images.dtype)


@torch.no_grad()
def warp_batch(images: Tensor, maps: np.ndarray, size: int) -> Tensor:
    """Sample every image under its own affine map in one go, antialiased where the map shrinks.

    Bilinear sampling at a random phase spreads a point by a variance of 1/6 source pixels squared; Pillow's
    antialiased bilinear filter at s source pixels per output pixel spreads it by s^2 / 6. The difference is
    added before sampling, by three-tap passes whose variance is set per image and axis. At s = 2 the two are
    exactly Pillow's filter; supersampling would take four times the samples.

    Args:
        images: `(B, 1, H, W)` uint8, or float in [0, 1].
        maps: `(B, 2, 3)` float, from output to source coordinates (x, y), both from -1 to 1 edge to edge.
        size: side of the output in pixels.

    Returns:
        `(B, 1, size, size)` float32 in [0, 1]. Outside the image lies its reflection: black wedges and
        smeared edge pixels occur in no film of the evaluation, mirrored tissue has at least its texture.
    """
    out = torch.empty(len(images), 1, size, size, device=images.device)
    for rows in _chunks(images):
        out[rows] = _warp(images[rows], maps[rows], size)
    return _to_unit(out, images.dtype)


def _warp(images: Tensor, maps: np.ndarray, size: int) -> Tensor:
    device = images.device
    pixels = images.to(torch.float32, copy=True)
    sides = np.array(images.shape[:-3:-1], dtype=np.float64)  # (W, H)
    footprint = ((maps[:, :, :2] * (sides / size)[:, None]) ** 2).sum(axis=2)  # (B, 2) s^2 along x, y
    passes = [(-1 - axis, taps) for axis in (0, 1) for taps in _passes(np.maximum(footprint[:, axis] - 1, 0) / 6)]
    numbers = _per_image(pixels, *maps.reshape(-1, 6).T, *(taps for _, taps in passes))
    for (dim, _), taps in zip(passes, numbers[6:], strict=True):
        _spread(pixels, taps, dim)
    line = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) * (2 / size) - 1
    grid = torch.empty(len(images), size, size, 2, device=device)
    for axis in (0, 1):
        by_x, by_y, shift = (n.squeeze(1) for n in numbers[3 * axis : 3 * axis + 3])  # (B, 1, 1)
        torch.add(by_x * line + shift, by_y * line[:, None], out=grid[..., axis])
    return F.grid_sample(pixels, grid, mode="bilinear", padding_mode="reflection", align_corners=False)


def _chunks(images: Tensor) -> list[slice]:
    """On the CPU a few images at a time, so that source and grid stay in cache; a GPU takes all at once."""
    step = _CPU_CHUNK if images.device.type == "cpu" else max(len(images), 1)
    return [slice(start, start + step) for start in range(0, len(images), step)]


def _source_maps(config: AugmentConfig, draws: Draws, mirrored: np.ndarray) -> np.ndarray:
    """`(B, 2, 3)` maps from output to source: mirror, then turn, shear, zoom and shift, then the crop."""
    angle = np.deg2rad(draws.uniform("rotate", -config.rotate_degrees, config.rotate_degrees))
    shear = np.tan(np.deg2rad(draws.uniform("shear", -config.shear_degrees, config.shear_degrees)))
    cos, sin = np.cos(angle), np.sin(angle)
    linear = np.stack([cos, cos * shear - sin, sin, sin * shear + cos], axis=1).reshape(-1, 2, 2)
    linear /= draws.log_uniform("zoom", *config.zoom)[:, None, None]
    linear[:, :, 0] *= np.where(mirrored, -1.0, 1.0)[:, None]
    shift = [2 * draws.uniform(f"translate_{a}", -config.translate, config.translate) for a in "xy"]

    area = draws.uniform("crop_area", *config.crop_scale)
    # Only ratios whose crop fits into the image, so that no draw has to be thrown away.
    ratio = draws.log_uniform("crop_ratio", *(np.clip(bound, area, 1 / area) for bound in config.crop_ratio))
    half = np.sqrt(np.stack([area * ratio, area / ratio], axis=1)).clip(max=1.0)  # (B, 2), 1 is the full side
    centre = np.stack([draws.uniform(f"crop_{a}", -1, 1) for a in "xy"], axis=1) * (1 - half)
    offset = centre + half * np.stack(shift, axis=1)
    return np.concatenate([half[:, :, None] * linear, offset[:, :, None]], axis=2)


def _passes(variance: np.ndarray) -> list[np.ndarray]:
    """Taps q of the passes that filter by `(B,)` variances in pixels squared; 0 leaves an image bit for bit."""
    # A pass [q, 1 - 2q, q] adds 2q; beyond q = 1/4 its response turns negative: wide filters take several.
    passes = np.ceil(variance / 0.5 - 1e-9)
    taps = variance / (2 * np.maximum(passes, 1))
    return [np.where(i < passes, taps, 0.0) for i in range(int(passes.max(initial=0)))]


def _spread(pixels: Tensor, taps: Tensor, dim: int) -> None:
    """One pass in place along one axis."""
    length = pixels.shape[dim] - 1
    left, right = pixels.narrow(dim, 0, length), pixels.narrow(dim, 1, length)
    step = (right - left).mul_(taps)
    left += step
    right -= step


def _blur(out: Tensor, draws: Draws, config: AugmentConfig) -> None:
    chosen, rows = _chosen(draws.happens("blur", config.blur_prob), out)
    if not len(chosen):
        return
    sigma = np.maximum(draws.uniform("blur_sigma", *config.blur_sigma), 1e-3)[chosen]
    radius = max(1, math.ceil(3 * config.blur_sigma[1]))  # from the config, so that no image depends on its batch
    out[rows] = _gaussian(out[rows], sigma, radius)


def _gaussian(pixels: Tensor, sigma: np.ndarray, radius: int) -> Tensor:
    """Images `(B, 1, H, W)` filtered by `(B,)` standard deviations in pixels."""
    kernel = np.exp(-0.5 * (np.arange(-radius, radius + 1) / sigma[:, None]) ** 2)
    taps = _per_image(pixels, *(kernel / kernel.sum(axis=1, keepdims=True)).T)
    for dim, pad in ((-1, (radius, radius, 0, 0)), (-2, (0, 0, radius, radius))):
        padded = F.pad(pixels, pad, mode="replicate")
        pixels = torch.zeros_like(pixels)
        for i, tap in enumerate(taps):
            pixels.addcmul_(padded.narrow(dim, i, pixels.shape[dim]), tap)
    return pixels


def _sharpen(out: Tensor, draws: Draws, config: AugmentConfig) -> None:
    chosen, rows = _chosen(draws.happens("sharpen", config.sharpen_prob), out)
    if not len(chosen):
        return
    (amount,) = _per_image(out, draws.uniform("sharpen_amount", *config.sharpen_amount)[chosen])
    plain = out[rows]
    blurred = _gaussian(plain, np.full(len(chosen), _SHARPEN_SIGMA), math.ceil(3 * _SHARPEN_SIGMA))
    out[rows] = (plain + amount * (plain - blurred)).clamp_(0.0, 1.0)  # a power of a negative grey value is none


def _change_tone(out: Tensor, draws: Draws, config: AugmentConfig) -> None:
    gamma = draws.log_uniform("gamma", *config.gamma)
    brightness = (1 + draws.uniform("brightness", -config.brightness, config.brightness)).astype(np.float32)
    contrast = (1 + draws.uniform("contrast", -config.contrast, config.contrast)).astype(np.float32)
    exponent, factor, share = _per_image(out, gamma, brightness * contrast, brightness * (1 - contrast))
    if config.gamma != (1.0, 1.0):
        out.pow_(exponent)
    offset = share * _means(out)
    out.mul_(factor).add_(offset)


def _add_noise(out: Tensor, draws: Draws, config: AugmentConfig) -> None:
    chosen, rows = _chosen(draws.happens("noise", config.noise_prob), out)
    if not len(chosen):
        return
    keys = (draws.bits("noise_key") >> np.uint64(32)).astype(np.int64)[chosen]
    (std,) = _per_image(out, draws.uniform("noise_std", *config.noise_std)[chosen])
    noise = _normals(send(torch.from_numpy(keys), out.device), out[0].numel())
    out[rows] += noise.view(-1, *out.shape[1:]) * std


def _normals(keys: Tensor, count: int) -> Tensor:
    """`(B, count)` float32 standard normals, each a function of its image's 32-bit key and its place."""
    half = (count + 1) // 2
    bits = torch.arange(2 * half, device=keys.device).mul_(0x9E3779B1) + keys[:, None]
    bits.bitwise_and_(_MASK32)
    # Multipliers below 2^31 keep every product of the int64 hash below 2^63: no overflow on any device.
    for shift, multiplier in ((16, 0x7FEB352D), (15, 0x045D9F3B)):
        bits.bitwise_xor_(bits >> shift).mul_(multiplier).bitwise_and_(_MASK32)
    uniform = bits.bitwise_xor_(bits >> 16).to(torch.float32).add_(0.5).mul_(2.0**-32)
    radius = uniform[:, :half].log().mul_(-2).clamp_min_(0).sqrt_()  # Box and Muller, 1958
    angle = uniform[:, half:].mul_(2 * math.pi)
    return torch.cat([angle.cos().mul_(radius), angle.sin().mul_(radius)], dim=1)[:, :count]


def _framed(images: Tensor, draws: Draws, config: AugmentConfig) -> Tensor:
    """Stored images `(B, 1, H, W)` as floats in [0, 1], some with a frame of their own mean."""
    images = _to_unit(images.to(torch.float32, copy=True), images.dtype)
    chosen, rows = _chosen(draws.happens("frame", config.frame_prob), images)
    if not len(chosen):
        return images
    widths = [
        draws.uniform(f"frame_{side}", *config.frame_width)[chosen] for side in ("left", "top", "right", "bottom")
    ]
    left, top, right, bottom = _per_image(images, *widths)
    height, width = images.shape[-2:]
    line = (torch.arange(width, device=images.device, dtype=torch.float32) + 0.5) / width
    column = ((torch.arange(height, device=images.device, dtype=torch.float32) + 0.5) / height)[:, None]
    inside = (line >= left) & (line < 1 - right) & (column >= top) & (column < 1 - bottom)
    framed = images[rows]
    images[rows] = torch.where(inside, framed, _means(framed))
    return images


def _erase(out: Tensor, draws: Draws, config: AugmentConfig) -> None:
    chosen, rows = _chosen(draws.happens("erase", config.erase_prob), out)
    if not len(chosen):
        return
    area = draws.uniform("erase_area", *config.erase_scale)[chosen]
    ratio = draws.log_uniform("erase_ratio", *_ERASE_RATIO)[chosen]
    sides = [np.minimum(np.sqrt(side), 1.0) for side in (area / ratio, area * ratio)]  # along x, y
    starts = [draws.uniform(f"erase_{axis}")[chosen] * (1 - side) for axis, side in zip("xy", sides, strict=True)]
    edges = _per_image(out, *starts, *(start + side for start, side in zip(starts, sides, strict=True)))
    left, top, right, bottom = edges
    line = (torch.arange(out.shape[-1], device=out.device, dtype=torch.float32) + 0.5) / out.shape[-1]
    column = line[:, None]
    inside = (line >= left) & (line < right) & (column >= top) & (column < bottom)
    erased = out[rows]
    out[rows] = torch.where(inside, _means(erased), erased)


def _means(images: Tensor) -> Tensor:
    """`(B, 1, 1, 1)` mean of each image; mean() may sum in another order for another batch size."""
    return F.avg_pool2d(F.adaptive_avg_pool2d(images, 8), 8)


def _per_image(like: Tensor, *values: np.ndarray) -> Sequence[Tensor]:
    """Each of some `(B,)` as `(B, 1, 1, 1)` float32 beside the images, all in one copy."""
    numbers = send(torch.from_numpy(np.array(values, dtype=np.float32)), like.device)
    return numbers[..., None, None, None].unbind()


def _chosen(happens: np.ndarray, like: Tensor) -> tuple[np.ndarray, Tensor]:
    """Places of the images that something happens to, here and beside the images."""
    places = np.flatnonzero(happens)
    return places, send(torch.from_numpy(places), like.device)


def _to_unit(out: Tensor, stored: torch.dtype) -> Tensor:
    """Grey values in [0, 1]; after resampling, when there are fewest pixels to divide."""
    return (out.div_(255) if stored == torch.uint8 else out).clamp_(0.0, 1.0)


def _check_images(images: Tensor) -> None:
    if images.ndim != 4 or images.shape[1] != 1 or not (images.dtype == torch.uint8 or images.is_floating_point()):
        raise ValueError(
            f"images must be (B, 1, H, W), uint8 or float in [0, 1], got {tuple(images.shape)} {images.dtype}"
        )


def _numbers(value: object, count: int) -> tuple[float, ...] | None:
    """`count` finite numbers, or None where `value` is anything else (a YAML list comes as a list)."""
    items = [value] if count == 1 else list(value) if isinstance(value, Sequence) else []
    if len(items) != count or not all(isinstance(i, (int, float)) and not isinstance(i, bool) for i in items):
        return None
    return tuple(float(i) for i in items)  # type: ignore[arg-type]


def _words(values: list[int]) -> np.ndarray:
    return np.array([value % 2**64 for value in values], dtype=np.uint64)


def _mix(state: np.ndarray) -> np.ndarray:
    """One step of splitmix64; uint64 arrays wrap around silently, as it wants."""
    state = state + _words([_GOLDEN])
    state = (state ^ (state >> np.uint64(30))) * _words([0xBF58476D1CE4E5B9])
    state = (state ^ (state >> np.uint64(27))) * _words([0x94D049BB133111EB])
    return np.asarray(state ^ (state >> np.uint64(31)))
