"""Does the score depend on the places that the heat map points to?

Deletion takes the hottest pixels away first, insertion gives them first; after every step the model scores the image.
A faithful map lets the probability fall, or rise, faster than maps that know nothing of the image. What is taken away
is replaced by the same film strongly blurred: black squares would be something no film shows, and a little blur would
leave the broad shadows that pneumonia consists of.

Source:
    Petsiuk, Das and Saenko, RISE, BMVC 2018 (deletion, insertion, area under the curve).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from scipy.ndimage import gaussian_filter, zoom

from pneumolit.data.datamodule import ImageRows
from pneumolit.explanation.methods import Advance
from pneumolit.explanation.resample import mean_interval, sign_test

NUM_RANDOM = 2  # random maps per image
BLUR = 0.1  # standard deviation of the blur, as a share of the image's side
_FRACTIONS = np.linspace(0.0, 1.0, 11)  # of the pixels, taken away or given
OWN, OTHER, RANDOM = "own", "other", "random"

# Gets rows of images and gives `(N,)` probabilities of pneumonia.
Score = Callable[[ImageRows], np.ndarray]


class Altered:
    """Images with the hottest pixels taken away or given, made when they are asked for; an array to `ImageRows`.

    Args:
        images: `(N, H, W)` uint8.
        orders: `(N, M, H * W)` int32, for every image and map the pixels from the hottest down.
        advance: told of every image made.
    """

    def __init__(self, images: np.ndarray, orders: np.ndarray, advance: Advance | None = None) -> None:
        self.images, self.orders, self.advance = images, orders, advance
        self.blurred = np.stack([blurred(image) for image in images])
        self.shape = (len(images), orders.shape[1], 2, len(_FRACTIONS))

    def __len__(self) -> int:
        return int(np.prod(self.shape))

    def __getitem__(self, rows: np.ndarray) -> np.ndarray:
        made = np.stack([self._one(*place) for place in zip(*np.unravel_index(rows, self.shape), strict=True)])
        if self.advance is not None:
            self.advance(len(rows))
        return made

    def _one(self, image: int, which: int, is_insertion: int, step: int) -> np.ndarray:
        film, smooth = self.images[image], self.blurred[image]
        start, other = (smooth, film) if is_insertion else (film, smooth)
        hottest = self.orders[image, which, : round(float(_FRACTIONS[step]) * film.size)]
        made = start.flatten()
        made[hottest] = other.ravel()[hottest]
        found: np.ndarray = made.reshape(film.shape)
        return found


def check_removal(
    images: np.ndarray,
    heat: np.ndarray,
    sides: np.ndarray,
    patient_ids: np.ndarray,
    score: Score,
    *,
    grid: tuple[int, int],
    seed: int,
    advance: Advance | None = None,
) -> dict[str, Any]:
    """Compare how fast the probability moves with the heat maps and with maps that know nothing of the image.

    Args:
        images: `(N, H, W)` uint8.
        heat: `(N, H, W)` of them.
        sides: `(N,)`; the probability is that of this side.
        patient_ids: `(N,)` who was imaged; differences are paired and patients drawn whole.
        score: of changed images.
        grid: rows and columns of random maps, those of the model's last map, so that they are as coarse.
        seed: of random maps.
        advance: told of every changed image, `num_images` of them in all.

    Returns:
        Plain values for checks.json. `curves`: for deletion and insertion, mean probability of the explained side by
        the share of pixels, with the image's own map, that of another image, and random ones. `deletion` and
        `insertion`: area under each, and what the own map is better by, with interval and p value over patients.
    """
    maps = _maps(heat, grid, seed)
    rng = np.random.default_rng([seed, 4])
    orders = np.stack([[hottest_first(one, rng) for one in of_image] for of_image in maps])
    altered = Altered(images, orders, advance)
    rows = ImageRows(altered, np.zeros(len(altered), dtype=np.int64))  # type: ignore[arg-type]
    probs = score(rows).reshape(altered.shape)  # (N, maps, 2, steps)
    is_pneumonia = (sides == "pneumonia")[:, None, None, None]
    probs = np.where(is_pneumonia, probs, 1 - probs)
    by_kind = {OWN: probs[:, 0], OTHER: probs[:, 1], RANDOM: probs[:, 2:].mean(1)}  # each (N, 2, steps)
    result: dict[str, Any] = {
        "num_images": len(images),
        "num_patients": len(np.unique(patient_ids.astype(str))),
        "num_random": NUM_RANDOM,
        "blur": BLUR,
        "fractions": _FRACTIONS.tolist(),
        "blurred": float(by_kind[OWN][:, 0, -1].mean()),
        "curves": {},
    }
    for place, name in enumerate(("deletion", "insertion")):
        curves = {kind: values[:, place] for kind, values in by_kind.items()}
        result["curves"][name] = {kind: values.mean(0).tolist() for kind, values in curves.items()}
        areas = {kind: np.trapezoid(values, _FRACTIONS, axis=1) for kind, values in curves.items()}
        sign = 1 if name == "insertion" else -1
        result[name] = {f"area_{kind}": float(area.mean()) for kind, area in areas.items()}
        for kind in (RANDOM, OTHER):
            better = sign * (areas[OWN] - areas[kind])
            result[name][f"better_than_{kind}"] = {
                "mean": float(better.mean()),
                "interval": mean_interval(better, patient_ids, seed=seed),
                "p": sign_test(better, patient_ids, seed=seed),
            }
    return result


def num_images(count: int) -> int:
    """How many changed images of `count` are scored."""
    return count * (2 + NUM_RANDOM) * 2 * len(_FRACTIONS)


def blurred(image: np.ndarray) -> np.ndarray:
    """`(H, W)` uint8 without anything smaller than a tenth of the side."""
    smooth = gaussian_filter(image.astype(np.float32), BLUR * image.shape[0], mode="nearest")
    return np.asarray(np.clip(np.rint(smooth), 0, 255).astype(np.uint8))


def hottest_first(heat: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """`(H * W,)` int32 pixels from the hottest down; equally hot ones in random order, not row by row."""
    shuffled = rng.permutation(heat.size)
    found: np.ndarray = shuffled[np.argsort(-heat.ravel()[shuffled], kind="stable")]
    return found.astype(np.int32)


def _maps(heat: np.ndarray, grid: tuple[int, int], seed: int) -> np.ndarray:
    """`(N, 2 + NUM_RANDOM, H, W)`: the own map, that of another image, and smooth random ones."""
    rng = np.random.default_rng([seed, 3])
    size = heat.shape[1:]
    factors = (size[0] / grid[0], size[1] / grid[1])
    random = np.stack([[_zoomed(rng.random(grid), factors, size) for _ in range(NUM_RANDOM)] for _ in range(len(heat))])
    # Half way round: the images beside this one may be of the same patient.
    other = np.roll(heat, max(len(heat) // 2, 1), axis=0)
    return np.concatenate([heat[:, None], other[:, None], random], axis=1)


def _zoomed(values: np.ndarray, factors: tuple[float, float], size: tuple[int, ...]) -> np.ndarray:
    found = zoom(values, factors, order=1, mode="nearest", grid_mode=True)
    assert found.shape == size
    return np.asarray(found, dtype=np.float32)
