"""What the command `export` does: a bundle, its card, and if asked an ONNX file with its example."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.console import Console

import pneumolit
from pneumolit.exporting.example import EXAMPLE_FILE, example_for
from pneumolit.exporting.onnx_file import check_packages, write_onnx
from pneumolit.prediction.bundle import BUNDLE, open_bundle, write_bundle
from pneumolit.prediction.opening import open_scorer, with_reference
from pneumolit.prediction.scorer import Scorer, is_bundle
from pneumolit.rundir import locked, utc_now, write_bytes, write_text

ONNX_FILE = "model.onnx"
_CARDS = ("model_card.md", "model_card.html", "may_i_use.html")


@dataclass(frozen=True)
class Exported:
    """What was written.

    Attributes:
        folder: of the bundle.
        num_bytes: in it.
        onnx_file: None where none was asked for.
        onnx_difference: of a probability, at most, to the model.
        has_reference: whether the bundle can tell films of another kind.
        notes: what a person should know.
    """

    folder: Path
    num_bytes: int
    onnx_file: Path | None
    onnx_difference: float
    has_reference: bool
    notes: tuple[str, ...]


def export_model(cfg: Mapping[str, Any], target: Path | None, console: Console) -> Exported:
    """Write a bundle and read it again, and an ONNX file if asked.

    Args:
        cfg: of the command, checked.
        target: folder of the bundle; None is `export` in the run folder.
        console: for people.

    Raises:
        FileNotFoundError, ValueError: there is no model, the target holds something else, packages are missing, or what
            was written does not say what the model says.
    """
    place = Path(str(cfg["run_dir"])).expanduser()
    if cfg["onnx"]:
        check_packages()
    scorer = open_scorer(str(cfg["run_dir"]))
    folder = target if target is not None else place / "export"
    if folder.absolute() == place.absolute():
        raise ValueError(f"output={folder} is the folder that is exported; give another")
    lock = folder / ".lock"  # stays where an export was cut off, and so says whose files these are
    if folder.exists() and any(folder.iterdir()) and not is_bundle(folder) and not lock.exists():
        raise ValueError(f"output={folder} holds something else than a bundle; give a new or an empty folder")
    scorer, why = with_reference(scorer, place, cfg, console)
    notes: tuple[str, ...] = (scorer.reader_note,) if scorer.reader_note else ()
    notes += (f"The bundle cannot tell films of another kind: {why}",) if why else ()
    if (folder / ONNX_FILE).is_file() and not cfg["onnx"]:
        notes += ("The ONNX file of an earlier export was removed; onnx=true writes it anew",)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        reason = "it is a file" if folder.is_file() else error.strerror
        raise ValueError(f"output={folder} cannot be made a folder ({reason}); give another one") from error
    with locked(lock, f"another process is writing {folder}; wait for its end, or give another output"):
        difference = _write(scorer, place, folder, with_onnx=cfg["onnx"])
        lock.unlink()  # while it is held: whoever waits for it opens a new one
    size = sum(path.stat().st_size for path in folder.iterdir())
    onnx_file = folder / ONNX_FILE if cfg["onnx"] else None
    return Exported(folder, size, onnx_file, difference, scorer.reference is not None, notes)


def _write(scorer: Scorer, place: Path, folder: Path, *, with_onnx: bool) -> float:
    """All files; gives the largest difference of the ONNX file's probabilities."""
    write_bundle(scorer, folder, facts={"exported": utc_now(), "pneumolit": pneumolit.__version__})
    _check_bundle(scorer, folder)
    for name in _CARDS:
        if (place / name).is_file():
            write_bytes(folder / name, (place / name).read_bytes())
        else:
            (folder / name).unlink(missing_ok=True)  # of another model that was exported here before
    for name in (ONNX_FILE, EXAMPLE_FILE):  # of an earlier export, perhaps of other weights
        (folder / name).unlink(missing_ok=True)
    if not with_onnx:
        return 0.0
    difference = write_onnx(scorer, folder / ONNX_FILE)
    write_text(folder / EXAMPLE_FILE, example_for(ONNX_FILE))
    return difference


def _check_bundle(scorer: Scorer, folder: Path) -> None:
    """What was written says what the model says, to the last bit on the same device."""
    again = open_bundle(folder)
    rng = np.random.default_rng(0)
    images = {side: rng.integers(0, 256, (4, side, side)).astype(np.uint8) for side in scorer.sides}
    before, after = scorer.score(images), again.score(images)
    if not np.allclose(before.probs, after.probs, rtol=0, atol=1e-6):
        (folder / BUNDLE).unlink()
        raise ValueError(
            f"the bundle in {folder} does not say what the model says (off by "
            f"{np.abs(before.probs - after.probs).max():.2g}); it is not kept"
        )
