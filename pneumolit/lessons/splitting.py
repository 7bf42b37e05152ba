"""Lessons about who is on which side: images or patients, sixteen films, augmented films."""

from __future__ import annotations

import numpy as np
import torch

from pneumolit.data.datamodule import image_rows, padded_batches
from pneumolit.evaluation.metrics import auroc
from pneumolit.lessons.finding import AREA, POINTS, Finding, accuracy, percent, points, shown
from pneumolit.lessons.taught import Taught, scores_of
from pneumolit.model.features import inference

_DRAWS = 1000  # of small validation sets
_DRAWINGS = 10  # of augmented validation films


def patient_split(taught: Taught) -> Finding:
    """Films of one patient on both sides of a split: what validation promises, and what new patients give."""
    promised, given = {}, {}
    for name in ("wrong", "right"):
        val, new = taught.validation(name), taught.new_patients(name)
        promised[name] = round(auroc(val.positives, val.scores), 3)
        given[name] = round(auroc(new.positives, new.scores), 3)
    lost = round(promised["wrong"] - given["wrong"], 3)
    return Finding(
        sentence=(
            f"Split by images, validation promised an AUROC of {promised['wrong']:.3f} and new patients gave "
            f"{given['wrong']:.3f}: {lost:.3f} was memory of the same chests; split by patients it promised "
            f"{promised['right']:.3f} and they gave {given['right']:.3f}."
        ),
        number=lost,
        unit=AREA,
        rows=(
            ("split by images: AUROC of validation", f"{promised['wrong']:.3f}"),
            ("split by images: AUROC of new patients", f"{given['wrong']:.3f}"),
            ("split by patients: AUROC of validation", f"{promised['right']:.3f}"),
            ("split by patients: AUROC of new patients", f"{given['right']:.3f}"),
        ),
    )


def validation_of_16(taught: Taught) -> Finding:
    """How far sixteen films, drawn again and again, lie apart about one and the same model."""
    small, large = taught.validation("wrong"), taught.validation("right")
    new = taught.new_patients("wrong")
    is_right = (new.scores > 0) == (new.positives == 1)
    rng = np.random.default_rng(taught.lesson.cfg["seed"])
    spread = {
        # With replacement: drawn without, films would seem the surer the more of the new patients' they take up.
        count: np.percentile([rng.choice(is_right, count).mean() for _ in range(_DRAWS)], [2.5, 97.5])
        for count in (len(small), len(large))
    }
    (low, high), (low_large, high_large) = spread[len(small)], spread[len(large)]
    said, truth = accuracy(small.positives, small.scores > 0), float(is_right.mean())
    wide = points(high, low)
    return Finding(
        sentence=(
            f"{len(small)} films promised {percent(said)} % where new patients gave {percent(truth)} %: another "
            f"{len(small)} would have promised anything from {percent(low)} to {percent(high)} %, a spread of "
            f"{wide:.1f} points, another {len(large)} only {percent(low_large)} to {percent(high_large)} %."
        ),
        number=wide,
        unit=POINTS,
        rows=(
            (f"accuracy in {len(small)} films of validation", shown(said)),
            ("accuracy in new patients", shown(truth)),
            *(
                (f"95 of 100 draws of {count} films, lowest and highest", ", ".join(map(shown, limits)))
                for count, limits in spread.items()
            ),
        ),
    )


def augmented_validation(taught: Taught) -> Finding:
    """The same model on the same validation films, as they are and as training would have shown them."""
    val, new = taught.validation("model"), taught.new_patients("model")
    plain, truth = (accuracy(p.positives, p.scores > 0) for p in (val, new))
    drawn = _augmented_accuracies(taught)
    mean = float(np.mean(drawn))
    apart = points(max(drawn), min(drawn))
    return Finding(
        sentence=(
            f"Augmented as in training, validation of one model on the same films said anything from "
            f"{percent(min(drawn))} to {percent(max(drawn))} % in {len(drawn)} drawings, {apart:.1f} points apart by "
            f"the draw alone; as they are the films give {percent(plain)} % every time, and new patients "
            f"{percent(truth)} %."
        ),
        number=apart,
        unit=POINTS,
        rows=(
            ("accuracy in validation, augmented, lowest and highest", f"{shown(min(drawn))}, {shown(max(drawn))}"),
            ("accuracy in validation, augmented, on average", shown(mean)),
            ("accuracy in validation as it is", shown(plain)),
            ("accuracy in new patients", shown(truth)),
        ),
    )


def _augmented_accuracies(taught: Taught) -> list[float]:
    """Accuracy in validation under the run's own augmentation, drawn several times."""
    model, data = taught.model("model"), taught.own_data("model")
    model.eval()
    rows = image_rows(data, data.rows("val"))
    positives = data.labels.positive_mask[rows.targets]
    size, found = int(model.settings["image_size"]), []
    with inference(model.device, "float32"):
        for epoch in range(_DRAWINGS):
            logits = []
            for batch, count in padded_batches(rows):
                images = model.augment(batch["image"].to(model.device), batch["position"], epoch=epoch, size=size)
                logits.append(model(images)[:count].float())
            found.append(accuracy(positives, scores_of(torch.cat(logits).cpu().double().numpy(), model) > 0))
    return found
