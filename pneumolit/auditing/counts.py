"""How many images of what kind lie on which side, and whether that is as it is known of the Kaggle set."""

from __future__ import annotations

from typing import Any

import numpy as np

from pneumolit.data.records import SPLITS
from pneumolit.data.table import RecordTable
from pneumolit.labels import NORMAL, PNEUMONIA

# Counted in the archive of the Kaggle set, "Chest X-Ray Images (Pneumonia)", version 2.
KNOWN_COUNTS = {
    "train": {NORMAL: 1341, PNEUMONIA: 3875},
    "val": {NORMAL: 8, PNEUMONIA: 8},
    "test": {NORMAL: 234, PNEUMONIA: 390},
}
KNOWN_TOTAL = 5856
CLAIMED_TOTAL = 5863  # that the page of the set names, and many papers after it
_UNNAMED = "(no split)"


def count_images(records: RecordTable) -> dict[str, dict[str, int]]:
    """Images by split and class as folders or manifest name them, splits in the usual order."""
    kinds = records.kinds("split", "label")
    counts = np.bincount(kinds.codes, minlength=len(kinds.values))
    counted = {kind: int(count) for kind, count in zip(kinds.values, counts, strict=True)}
    splits = sorted({split for split, _ in counted}, key=split_order)
    classes = sorted({label for _, label in counted})
    return {split or _UNNAMED: {name: counted.get((split, name), 0) for name in classes} for split in splits}


def compare_with_known(counts: dict[str, dict[str, int]]) -> dict[str, Any]:
    """How the counts of a set in the Kaggle layout differ from the known ones.

    Args:
        counts: as from `count_images`.

    Returns:
        total, known_total, claimed_total, and differences: what is not as known, in sentences.
    """
    differences = [
        f"{split}/{label}: {counts.get(split, {}).get(label, 0):,} images, {known:,} are known"
        for split, of_split in KNOWN_COUNTS.items()
        for label, known in of_split.items()
        if counts.get(split, {}).get(label, 0) != known
    ]
    total = sum(sum(of_split.values()) for of_split in counts.values())
    return {
        "total": total,
        "known_total": KNOWN_TOTAL,
        "claimed_total": CLAIMED_TOTAL,
        "differences": differences,
    }


def class_mix(records: RecordTable, patients: np.ndarray) -> list[dict[str, Any]]:
    """Class, cause and series of every split: images, patients, share of the split.

    Args:
        records: of all images.
        patients: `(N,)` integers, the same for images of one patient.
    """
    kinds = records.kinds("split", "label", "cause", "series")
    splits = records.kinds("split")
    sizes = np.bincount(splits.codes, minlength=len(splits.values))
    size_of = {split: int(size) for (split,), size in zip(splits.values, sizes, strict=True)}
    rows = []
    for code in sorted(range(len(kinds.values)), key=lambda c: (split_order(kinds.values[c][0]), *kinds.values[c][1:])):
        split, label, cause, series = kinds.values[code]
        chosen = kinds.codes == code
        count = int(chosen.sum())
        rows.append(
            {
                "split": split or _UNNAMED,
                "class": label,
                "cause": cause,
                "series": series,
                "images": count,
                "patients": len(np.unique(patients[chosen])),
                "share": count / size_of[split],
            }
        )
    return rows


def split_order(split: str) -> tuple[int, str]:
    """Train, val, test, then whatever else there is, then what has no split."""
    return (SPLITS.index(split), "") if split in SPLITS else (len(SPLITS) + (split == ""), split)
