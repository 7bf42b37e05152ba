"""Pictures of films under their heat, in a folder that says whose they are, so that none is taken for a film."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pneumolit.prediction.films import file_name
from pneumolit.prediction.inputs import PICTURES_MARKER
from pneumolit.prediction.predictor import Prediction, explained_side
from pneumolit.rundir import write_text

_SIDE = 336  # pixels of each of the two pictures: film, film under its heat
_LINE = 22  # pixels, below the pictures
_LETTER = 13  # pixels
_OURS = re.compile(r"\d{6}_.*\.png")


def open_folder(cfg: Mapping[str, Any], target: Path | None) -> Path | None:
    """The folder of the pictures; None where none are asked for.

    Args:
        cfg: of the command: `heatmaps` is true, false or a folder.
        target: file of the table; None is standard output.

    Raises:
        ValueError: there is no place for them, or it holds something else.
    """
    if not cfg["heatmaps"]:
        return None
    if cfg["heatmaps"] is True:
        if target is None:
            raise ValueError("heatmaps=true writes beside the table, and output=- has no place; give heatmaps=FOLDER")
        folder = target.with_name(f"{target.stem}_heatmaps")
    else:
        folder = Path(str(cfg["heatmaps"])).expanduser()
    if target is not None and folder.absolute() == target.absolute():
        raise ValueError(f"heatmaps={folder} is the file of the table; give another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        why = "it is a file" if folder.is_file() else error.strerror
        raise ValueError(f"heatmaps: {folder} cannot be made a folder ({why}); give another one") from error
    others = (p.name for p in folder.iterdir() if p.name != PICTURES_MARKER and not _OURS.fullmatch(p.name))
    other = next(others, None)
    if other is not None:
        raise ValueError(f"heatmaps: {folder} holds something else ({other}); give a new or an empty folder")
    marker, own = folder / PICTURES_MARKER, "-" if target is None else str(target.absolute())
    table = marker.read_text(errors="surrogateescape") if marker.is_file() else own
    if table == "-" and any(folder.glob("*.png")):  # whose table nobody knows any more
        raise ValueError(f"heatmaps: {folder} holds pictures of a table on standard output; give another folder")
    if table not in ("", own) and Path(table).is_file():
        raise ValueError(f"heatmaps: {folder} holds the pictures of {table}; give another folder")
    write_text(marker, own)
    return folder


def clear_folder(folder: Path) -> None:
    """Remove the pictures of an earlier table."""
    for path in folder.iterdir():
        if _OURS.fullmatch(path.name):
            path.unlink()


def draw_picture(prediction: Prediction, folder: Path | None, number: int) -> str:
    """Draw a film beside itself under its heat, with a line that says what the heat is; the path, or "" without any.

    Args:
        prediction: with its heat, or of a file that could not be read.
        folder: from `open_folder`.
        number: of the film in the table, from 0.
    """
    if folder is None or prediction.heat is None or prediction.image is None:
        return ""
    from PIL import Image, ImageDraw, ImageFont

    from pneumolit.report.heat import beside_heat

    picture = beside_heat(prediction.image, prediction.heat, _SIDE, float(prediction.heat.max()))
    canvas = Image.new("RGB", (2 * _SIDE, _SIDE + _LINE), "white")
    canvas.paste(Image.fromarray(np.round(255 * picture).astype(np.uint8)))
    chance = "" if prediction.probability is None else f", probability of pneumonia {prediction.probability:.3f}"
    side = explained_side(prediction.decision)
    side = prediction.decision if side == "normal" else side  # "no pneumonia", maybe
    text = f"{prediction.decision}{chance}; heat: what speaks for {side}, own scale"
    font = ImageFont.load_default(_LETTER)
    ImageDraw.Draw(canvas).text((6, _SIDE + 3), text, fill="black", font=font)
    file = folder / f"{number + 1:06d}_{file_name(prediction.path)}_{file_name(prediction.run)}.png"
    canvas.save(file)
    return str(file)
