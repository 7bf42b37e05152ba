"""How sharp a film is, as one number: blur is what scanners, enlarging and compression leave behind."""

from __future__ import annotations

import numpy as np

_CHUNK = 64  # images at a time, so that a large set needs no more memory than a small one


def sharpness(images: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Standard deviation of the Laplacian over that of the image.

    Contrast cancels; what is left is how much of it lies in the finest detail. Images of different size on disk are
    compared at the size at which they are stored.

    Args:
        images: `(M, S, S)` uint8, such as a store's.
        rows: `(N,)` which of them.

    Returns:
        `(N,)` float64 >= 0; 0 for an image of one grey.

    Source:
        Variance of the Laplacian: Pech-Pacheco et al., ICPR 2000.
    """
    found = np.zeros(len(rows))
    for start in range(0, len(rows), _CHUNK):
        film = np.asarray(images[rows[start : start + _CHUNK]]).astype(np.float32)
        laplacian = -4 * film[:, 1:-1, 1:-1]
        laplacian += film[:, :-2, 1:-1] + film[:, 2:, 1:-1] + film[:, 1:-1, :-2] + film[:, 1:-1, 2:]
        contrast = film.std(axis=(1, 2))
        flat = contrast == 0
        found[start : start + len(film)] = laplacian.std(axis=(1, 2)) / np.where(flat, 1, contrast) * ~flat
    return found
