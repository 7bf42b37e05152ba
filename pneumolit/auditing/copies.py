"""Copies: files with the same bytes, and films that are the same picture in other bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image
from scipy.fft import dctn
from scipy.ndimage import uniform_filter

from pneumolit.data.store import Progress

# Bits of 64 in which hashes of one film differ: at most 10 over 200 films of the Kaggle set after JPEG at quality 30,
# reduction to a third, contrast x 1.5, gamma 0.6 and 1.6, unsharp mask, cropping by 2 % and turning by 1 degree. Of
# two different films 1 pair in 250 is as near, so this only chooses what is worth a look at the pixels.
NEAR_BITS = 10
# Correlation of fine detail. No two different films of the Kaggle set's 17 million pairs have more than .73; of one
# film after the changes above (cropped by 1 %) none has less than .83.
SAME_DETAIL = 0.80
_SIDE = 64  # pixels at which detail is compared
_WINDOW = 7  # of these: what is coarser (thorax, exposure, collimation) is alike in all films and taken out
_HASH_SIDE, _FREQUENCIES = 32, 8
_CHUNK, _PAIRS = 256, 4096  # rows, and pairs, at a time
_KINDS = ("the same picture", "mirrored", "as a negative", "mirrored, as a negative")


@dataclass(frozen=True)
class NearPair:
    """Two files that show the same film, though their bytes differ.

    Attributes:
        first: row of the one that comes first.
        second: row of the other.
        kind: how the second shows it.
        detail: correlation of fine detail, up to 1.
    """

    first: int
    second: int
    kind: str
    detail: float


@dataclass(frozen=True)
class NearGroup:
    """Files that show one film.

    Attributes:
        rows: `(M,)` of them, ascending.
        kinds: how they show it, without repetition.
        detail: the least correlation among the pairs that tie them together.
    """

    rows: np.ndarray
    kinds: tuple[str, ...]
    detail: float


def exact_groups(contents: np.ndarray, unreadable: np.ndarray) -> list[np.ndarray]:
    """Rows of files with the same bytes, a group each, in the order of their first rows.

    Args:
        contents: `(N,)` integers, the same for equal files.
        unreadable: rows to leave out.
    """
    order = np.argsort(contents, kind="stable")
    order = order[~np.isin(order, unreadable)]
    bounds = np.flatnonzero(np.diff(contents[order])) + 1
    groups = [group for group in np.split(order, bounds) if len(group) > 1]
    return sorted(groups, key=lambda group: int(group[0]))


def near_pairs(
    images: np.ndarray, contents: np.ndarray, unreadable: np.ndarray, progress: Progress | None = None
) -> list[NearPair]:
    """Pairs of files that show the same film in other bytes, the most alike first.

    A 64-bit perceptual hash finds candidates among all pairs; fine detail decides. Found are films that were saved
    anew, resized, sharpened, made brighter or darker, turned by a degree, cropped by 1 %, mirrored or inverted.
    Not found are films cropped by 2 % or more, shifted, or turned further. Of files with the same bytes only the first
    is compared.

    Args:
        images: `(N, S, S)` uint8, such as a store's.
        contents: `(N,)` integers, the same for equal files.
        unreadable: rows to leave out.
        progress: called now and then.

    Source:
        Hash of the signs of the lowest frequencies: Zauner, Implementation and Benchmarking of Perceptual Image Hash
        Functions, 2010.
    """
    rows = np.setdiff1d(np.unique(contents, return_index=True)[1], unreadable)  # ascending
    hashes, details = _describe(images, rows, progress)
    is_flat = np.asarray(~details.any(axis=(1, 2)))  # one gray has no detail to compare
    found = [pair for start in range(0, len(rows), _CHUNK) for pair in _confirmed(hashes, details, start, is_flat)]
    pairs = [NearPair(int(rows[a]), int(rows[b]), kind, value) for a, b, kind, value in found]
    return sorted(pairs, key=lambda pair: (-pair.detail, pair.first, pair.second))


def near_groups(pairs: Sequence[NearPair]) -> list[NearGroup]:
    """Pairs that share a film put together, the most alike first."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    ends = np.array([(pair.first, pair.second) for pair in pairs], dtype=np.int64).reshape(-1, 2)
    rows, places = np.unique(ends, return_inverse=True)
    first, second = places.reshape(-1, 2).T
    graph = coo_array((np.ones(len(pairs)), (first, second)), shape=(len(rows), len(rows)))
    number, member = connected_components(graph, directed=False)
    groups = []
    for one in range(number):
        own = [pair for pair, place in zip(pairs, first, strict=True) if member[place] == one]
        kinds = tuple(kind for kind in _KINDS if any(pair.kind == kind for pair in own))
        groups.append(NearGroup(rows[member == one], kinds, min(pair.detail for pair in own)))
    return sorted(groups, key=lambda group: (-group.detail, int(group.rows[0])))


def _describe(images: np.ndarray, rows: np.ndarray, progress: Progress | None) -> tuple[np.ndarray, np.ndarray]:
    """Hashes `(M, 4)` uint64 of each film, its mirror image and their negatives; details `(M, D, D)` float16."""
    inner = _SIDE - 2 * (_WINDOW // 2)
    hashes = np.zeros((len(rows), 4), dtype=np.uint64)
    details = np.zeros((len(rows), inner, inner), dtype=np.float16)
    for start in range(0, len(rows), _CHUNK):
        chosen = slice(start, start + _CHUNK)
        films = np.stack([_reduce(images[row]) for row in rows[chosen]])
        hashes[chosen] = _hashes(films)
        details[chosen] = _fine_detail(films)
        if progress is not None:
            progress("comparing", min(start + _CHUNK, len(rows)), len(rows))
    return hashes, details


def _reduce(film: np.ndarray) -> np.ndarray:
    small = Image.fromarray(np.asarray(film)).resize((_SIDE, _SIDE), Image.Resampling.BOX)
    return np.asarray(small, dtype=np.float32)


def _hashes(films: np.ndarray) -> np.ndarray:
    count, step = len(films), _SIDE // _HASH_SIDE
    small = films.reshape(count, _HASH_SIDE, step, _HASH_SIDE, step).mean(axis=(2, 4))
    low = dctn(small, axes=(1, 2), norm="ortho")[:, : _FREQUENCIES + 1, : _FREQUENCIES + 1]
    # A mirror image has the odd horizontal frequencies with the other sign.
    mirror = low * (-1.0) ** np.arange(_FREQUENCIES + 1)
    both = [_bits(frequencies.reshape(count, -1)[:, 1:65]) for frequencies in (low, mirror)]  # without the mean
    return np.stack([both[0], both[1], ~both[0], ~both[1]], axis=1)


def _bits(frequencies: np.ndarray) -> np.ndarray:
    signs = frequencies > np.median(frequencies, axis=1, keepdims=True)
    return np.packbits(signs, axis=1).view(np.uint64).ravel()


def _fine_detail(films: np.ndarray) -> np.ndarray:
    edge = _WINDOW // 2
    detail = (films - uniform_filter(films, (0, _WINDOW, _WINDOW)))[:, edge:-edge, edge:-edge]
    detail -= detail.mean(axis=(1, 2), keepdims=True)
    length = np.sqrt((detail**2).sum(axis=(1, 2), keepdims=True))
    return np.asarray(detail / np.where(length > 1e-3, length, np.inf))


def _confirmed(
    hashes: np.ndarray, details: np.ndarray, start: int, is_flat: np.ndarray
) -> Iterator[tuple[int, int, str, float]]:
    """Pairs of a film of this chunk with any that comes after it."""
    chunk, rest = hashes[start : start + _CHUNK, 0], hashes[start:]
    for kind in range(4):
        near = np.bitwise_count(chunk[:, None] ^ rest[None, :, kind]) <= NEAR_BITS
        first, second = np.nonzero(near)
        later = second > first
        first, second = first[later] + start, second[later] + start
        is_shown = ~(is_flat[first] | is_flat[second])
        first, second = first[is_shown], second[is_shown]
        for begin in range(0, len(first), _PAIRS):
            part = slice(begin, begin + _PAIRS)
            values = _correlate(details, first[part], second[part], is_mirror=kind % 2 == 1)
            values = values if kind < 2 else -values
            for place in np.flatnonzero(values >= SAME_DETAIL):
                yield int(first[part][place]), int(second[part][place]), _KINDS[kind], float(min(values[place], 1.0))


def _correlate(details: np.ndarray, first: np.ndarray, second: np.ndarray, *, is_mirror: bool) -> np.ndarray:
    other = details[second].astype(np.float32)
    first_detail = details[first].astype(np.float32)
    return np.asarray(np.einsum("nij,nij->n", first_detail, other[:, :, ::-1] if is_mirror else other))
