"""A confusion matrix as a picture, for reports and for TensorBoard."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from pneumolit.report.canvas import blank_figure, plain_text, style


def confusion_figure(confusion: np.ndarray, names: Sequence[str], *, title: str) -> Figure:
    """Draw counts and row percentages; the colour shows the row percentage.

    Args:
        confusion: `(K, K)` int, row = target, column = prediction.
        names: K class names, in the order of the matrix.
        title: above the picture.

    Raises:
        ValueError: the matrix is not K x K.
    """
    confusion = np.asarray(confusion)
    size = len(names)
    if confusion.shape != (size, size):
        raise ValueError(f"{size} names need a ({size}, {size}) matrix, got {confusion.shape}")
    fraction = confusion / np.maximum(confusion.sum(axis=1, keepdims=True), 1)
    figure = blank_figure(2.6 + 1.15 * size, 1.7 + 1.05 * size)
    axes = figure.add_subplot()
    # viridis would need colour for the middle; one hue keeps the numbers readable and prints well in grey.
    axes.imshow(fraction, cmap="Blues", vmin=0.0, vmax=1.0)
    for row in range(size):
        for column in range(size):
            share = f"{100 * fraction[row, column]:.1f} %" if confusion[row].any() else "no image"
            axes.text(
                column,
                row,
                f"{confusion[row, column]}\n{share}",
                ha="center",
                va="center",
                fontsize=11,
                color="white" if fraction[row, column] > 0.6 else "black",
            )
    labels = [plain_text(name) for name in names]
    slanted = max(len(label) for label in labels) > 10
    axes.set_xticks(range(size), labels, rotation=30 if slanted else 0, ha="right" if slanted else "center")
    axes.set_yticks(range(size), labels)
    style(axes, title, "predicted (percent of the row)", "true", grid=False)
    return figure
