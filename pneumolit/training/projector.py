"""Features of validation images for TensorBoard's projector: points in space, with labels and thumbnails."""

from __future__ import annotations

import math
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from pneumolit.data.augment import resize_batch
from pneumolit.data.datamodule import ImageRows, IndexBatch
from pneumolit.data.sending import send
from pneumolit.model.features import inference
from pneumolit.model.gathered import Gathered
from pneumolit.predictions import Predictions
from pneumolit.rundir import write_text
from pneumolit.scoring import scored_batches

if TYPE_CHECKING:
    from pneumolit.model.classifier import PneumoniaClassifier

MOST_POINTS = 1000
MOST_AXES = 128  # of 1,280 of an EfficientNet; distances between films stay, and the file is a tenth
THUMBNAIL = 48  # pixels; 1,000 of them are a picture of 1,536
_CONFIG = "projector_config.pbtxt"  # TensorBoard looks for this name beside event files


def write_projector(folder: Path, model: PneumoniaClassifier, images: ImageRows, predictions: Predictions) -> float:
    """Write what the projector reads: features before the head, labels, thumbnails.

    Args:
        folder: of the event files.
        model: in eval mode.
        images: N of them.
        predictions: of the same rows.

    Returns:
        Share of the features' squared length that the kept axes hold, in [0, 1].

    Raises:
        NoCutError: the model's head cannot be told from the rest.
    """
    rows = chosen_rows(len(images))
    points, kept = strongest_axes(_features(model, images, rows))
    place = folder / "projector"
    place.mkdir(parents=True, exist_ok=True)
    write_text(place / "tensors.tsv", "".join("\t".join(f"{v:.5g}" for v in point) + "\n" for point in points))
    write_text(place / "metadata.tsv", _metadata(predictions, rows))
    _sprite(images, rows).save(place / "sprite.png")
    write_text(
        folder / _CONFIG,  # last: it names the others
        'embeddings {\n  tensor_name: "val features"\n  tensor_path: "projector/tensors.tsv"\n'
        '  metadata_path: "projector/metadata.tsv"\n  sprite {\n    image_path: "projector/sprite.png"\n'
        f"    single_image_dim: {THUMBNAIL}\n    single_image_dim: {THUMBNAIL}\n  }}\n}}\n",
    )
    return kept


def chosen_rows(count: int, most: int = MOST_POINTS) -> np.ndarray:
    """Rows that are shown, in order: all of them, or so many drawn at random, the same ones in every run."""
    if count <= most:
        return np.arange(count)
    return np.sort(np.random.default_rng(0).permutation(count)[:most])


def strongest_axes(features: np.ndarray, most: int = MOST_AXES) -> tuple[np.ndarray, float]:
    """Features turned to the axes along which they are longest, and the share of their squared length that is kept.

    Not centred, so that angles as well as distances stay what they were.

    Args:
        features: `(N, D)` float.
        most: axes that are kept.
    """
    if features.shape[1] <= most:
        return features, 1.0
    left, lengths, _ = np.linalg.svd(features, full_matrices=False)
    total = float((lengths**2).sum())
    return left[:, :most] * lengths[:most], float((lengths[:most] ** 2).sum()) / total if total else 1.0


def _features(model: PneumoniaClassifier, images: ImageRows, rows: np.ndarray) -> np.ndarray:
    """`(N, D)` float64 of what the head takes, in float32."""
    model.take_apart()
    size, found, places = int(model.settings["image_size"]), Gathered(), Gathered()
    chosen = ImageRows(images[IndexBatch(rows, 0, 0)]["image"][:, 0].cpu().numpy(), images.targets[rows])
    with inference(model.device, "float32"):
        for batch, count in scored_batches(model, chosen):
            pixels = resize_batch(send(batch["image"], model.device), size)
            found.add(model.features(pixels)[:count].flatten(1).float().cpu())
            places.add(batch["index"][:count])
        features: np.ndarray = found.rows()[places.rows().argsort()].double().numpy()
    return features


def _metadata(predictions: Predictions, rows: np.ndarray) -> str:
    labels, targets, preds = predictions.labels, predictions.targets, predictions.preds
    header = ["true", "largest logit", "right", "file"]
    scores: np.ndarray | None = predictions.scores if labels.is_two_class_view else None
    lines = ["\t".join(header + ["score"] * (scores is not None))]
    for i in rows:
        cells = [labels.classes[targets[i]], labels.classes[preds[i]], "yes" if targets[i] == preds[i] else "no"]
        cells.append(str(predictions.paths[i]))
        if scores is not None:
            cells.append(f"{scores[i]:.3f}")
        lines.append("\t".join(" ".join(cell.split()) for cell in cells))  # a tab in a name would move the columns
    return "\n".join(lines) + "\n"


def _sprite(images: ImageRows, rows: np.ndarray) -> Image.Image:
    """All thumbnails in one square picture, row by row."""
    columns = math.ceil(math.sqrt(len(rows)))
    sprite = Image.new("L", (columns * THUMBNAIL, columns * THUMBNAIL))
    for place, row in enumerate(rows):
        film = images[IndexBatch(np.array([row]), 0, 0)]["image"][0, 0]
        small = Image.fromarray(np.asarray(film.cpu())).resize((THUMBNAIL, THUMBNAIL), Image.Resampling.BILINEAR)
        sprite.paste(small, (place % columns * THUMBNAIL, place // columns * THUMBNAIL))
    return sprite
