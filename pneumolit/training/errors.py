"""The picture of the films that fare worst, drawn where a model and its images are at hand, for the page of the run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pneumolit.data.datamodule import ImageRows
from pneumolit.rundir import RunDir
from pneumolit.scoring import read_calibration
from pneumolit.training.board_images import error_picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pneumolit.model.classifier import PneumoniaClassifier


def write_errors(
    run: RunDir, name: str, images: ImageRows, model: PneumoniaClassifier, *, what: str, when: str
) -> tuple[Figure, str]:
    """Draw the worst films of a set that was just scored, with heat maps where the model gives some.

    Args:
        run: its calibration.json and predictions of this set must stand.
        name: of the set, the folder below evaluation/.
        images: the rows of the predictions.
        model: that has made them.
        what: the set, for people.
        when: "of the last checkpoint" or the like.

    Returns:
        The sheet, and why the model gives no heat maps, as of `error_picture`.
    """
    from pneumolit.report.canvas import save

    calibration, _ = read_calibration(run)
    predictions = run.read_predictions(name)
    figure, why_not = error_picture(predictions, images, model, when=when, calibration=calibration, what=what)
    save(figure, run.evaluation(name).errors_file, dpi=figure.dpi)
    return figure, why_not
