"""What TensorBoard shows of a run beyond its curves: one layout, a curve per epoch, pictures, the table of results."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from torch.utils.tensorboard.summary import pr_curve_raw

from pneumolit.labels import two_class_logit
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.cut import NoCutError
from pneumolit.predictions import Predictions
from pneumolit.report.evaluation import TITLES
from pneumolit.rundir import RunDir
from pneumolit.training.averaging import AveragedWeights
from pneumolit.training.board_images import confusion_picture, error_picture
from pneumolit.training.build import build_logger
from pneumolit.training.errors import write_errors
from pneumolit.training.hparams import final_metrics, table_hparams, write_row
from pneumolit.training.place import Workplace
from pneumolit.training.projector import write_projector

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

MOST_CURVES = 50  # precision-recall curves of a run, 5 kB each; TensorBoard keeps 100
NUM_CUTS = 127  # points of a curve; the most that torch writes
_FINAL = ".final"  # ends the name of the event file that is written anew when scoring is repeated
_LAYOUT_TAG = b"custom_scalars__config__"
_SETS = r"(val|stress|block\d*)"
# The same in every run: TensorBoard joins the layouts of all runs, and would show a chart that differs a second time.
LAYOUT = {
    "train and validation": {
        "loss": ["Multiline", ["train/loss", f"{_SETS}/loss"]],
        "AUROC": ["Multiline", [f"{_SETS}/auroc"]],
        "balanced accuracy": ["Multiline", [f"{_SETS}/balanced_accuracy"]],
        "learning rate": ["Multiline", ["schedule/lr"]],
    }
}


class EpochBoard(Callback):
    """What TensorBoard gets after an epoch, from the logits that its validation has left.

    Precision and recall after every epoch; of runs with more than `MOST_CURVES` epochs after every second
    one (third, ...) and the last. Every `images_every` epochs a confusion matrix, and the films that fare worst with
    their heat maps: for these alone a dozen images go through the model again, forward and backward.

    Nothing is flushed here; the epoch's row, which comes after it, does that.

    Args:
        run: whose files.
        epochs: planned epochs of the run up to its end.
        images_every: epochs from one picture to the next; None or 0 for none.
    """

    def __init__(self, run: RunDir, epochs: int, images_every: int | None) -> None:
        self.run = run
        self.epochs = epochs
        self.images_every = images_every

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the layout of the curves, once per run."""
        writer = writer_of(trainer)
        if writer is not None and not _has_layout(self.run):
            writer.add_custom_scalars(LAYOUT)
            writer.flush()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write what the epoch has come to."""
        writer, epoch = writer_of(trainer), trainer.current_epoch + 1
        assert isinstance(pl_module, PneumoniaClassifier)
        if writer is None or "val" not in pl_module.validated:
            return
        if epoch % -(-self.epochs // MOST_CURVES) == 0 or epoch == self.epochs:
            _add_precision_recall(writer, pl_module, epoch)
        if self.images_every and epoch % self.images_every == 0:
            _add_pictures(writer, trainer, pl_module, epoch)


def log_results(
    cfg: Mapping[str, Any], place: Workplace, results: Mapping[str, Any], epochs: int, *, device: torch.device
) -> None:
    """Draw a finished run's worst films, and write what TensorBoard shows of it: row in HParams, matrices, projector.

    All but the projector goes into an event file of its own, which replaces that of an earlier attempt. Without
    TensorBoard only the films are drawn, for the run's page.

    Args:
        cfg: the run's configuration.
        place: of the run.
        results: metrics.json by evaluated set.
        epochs: finished ones.
        device: for heat maps and features.
    """
    run, use = place.run, cfg["callbacks"]["checkpoint"]["use"]
    model = PneumoniaClassifier.from_checkpoint(run.checkpoint(use)).to(device)
    images = place.datamodule.rows_of("val")
    figure, why_not = write_errors(run, "val", images, model, what=TITLES["val"], when=f"of the {use} checkpoint")
    if why_not:
        place.console.print(f"  no heat maps of the worst films: {why_not}", highlight=False, soft_wrap=True)
    for leftover in run.tensorboard_folder.glob(f"*{_FINAL}"):
        leftover.unlink()
    logger = build_logger(cfg, run, suffix=_FINAL)
    if logger is None:
        return
    writer = logger.experiment
    write_row(writer, table_hparams(cfg), final_metrics(results), epochs)
    for picture in sorted(run.evaluation_folder("val").glob("confusion*.png")):
        pixels = np.asarray(Image.open(picture).convert("RGB"))
        writer.add_image(f"final/val_{picture.stem}", pixels, epochs, dataformats="HWC")
    writer.add_figure("final/val_errors", figure, epochs)
    if cfg["logger"]["projector"]:
        try:
            write_projector(run.tensorboard_folder, model, images, run.read_predictions("val"))
        except NoCutError as error:
            line = f"  TensorBoard's projector gets no features: {cfg['backbone']} cannot be taken apart: {error}"
            place.console.print(line, highlight=False, soft_wrap=True)
    logger.finalize("success")


def writer_of(trainer: Trainer) -> SummaryWriter | None:
    """The writer of event files, where TensorBoard is wanted."""
    return next((logger.experiment for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)), None)


def _has_layout(run: RunDir) -> bool:
    """Whether an earlier stage, or the process that this one follows, has written it."""
    return any(_LAYOUT_TAG in path.read_bytes() for path in run.tensorboard_folder.glob("*tfevents*"))


def _add_precision_recall(writer: SummaryWriter, model: PneumoniaClassifier, epoch: int) -> None:
    """Precision and recall of the two-class score; nothing without one, or where only one side occurs."""
    mask, found = model.labels.positive_mask, model.validated["val"]
    positives = mask[found["target"].numpy()]
    if not positives.any() or positives.all():
        return
    tp, fp, tn, fn, precision, recall = count_by_share(positives, two_class_logit(found["logits"].numpy(), mask))
    # torch gives neither this function nor the one below types.
    summary = pr_curve_raw(  # type: ignore[no-untyped-call]
        "val/precision_recall", tp, fp, tn, fn, precision, recall, num_thresholds=NUM_CUTS
    )
    summary.value[0].metadata.display_name = "validation (threshold: share of films called normal)"
    summary.value[0].metadata.summary_description = (
        "Two-class score of the epoch's validation. A threshold is the share of films that are called normal, "
        "the ones with the lowest scores, so that the curve is exact whatever the scores are."
    )
    # The public way takes no description.
    writer._get_file_writer().add_summary(summary, epoch)  # type: ignore[no-untyped-call]


def count_by_share(positives: np.ndarray, scores: np.ndarray, num_cuts: int = NUM_CUTS) -> np.ndarray:
    """Count decisions when an even share of the films, those with the lowest scores, is called normal.

    TensorBoard's own way, even thresholds of a probability, makes one point of all scores that lie together, as they
    do at the start and at both ends of a long training.

    Args:
        positives: `(N,)` bool, both values occur.
        scores: `(N,)` float, any range; films with equal scores are called alike, then fewer are normal.
        num_cuts: shares from 0 to 1, at least 2.

    Returns:
        `(6, num_cuts)`: true and false positives, true and false negatives, precision (0 where nothing is called
        pneumonia), recall.
    """
    order = np.argsort(scores, kind="stable")
    ranked = np.r_[scores[order], np.inf]
    cuts = ranked[np.round(np.linspace(0, len(scores), num_cuts)).astype(int)]
    num_normal = np.searchsorted(ranked[:-1], cuts)  # strictly below the cut
    num_missed = np.r_[0, np.cumsum(positives[order])][num_normal]
    tp, fn = positives.sum() - num_missed, num_missed
    tn = num_normal - num_missed
    fp = (~positives).sum() - tn
    return np.stack([tp, fp, tn, fn, tp / np.maximum(tp + fp, 1), tp / positives.sum()])


def _add_pictures(writer: SummaryWriter, trainer: Trainer, model: PneumoniaClassifier, epoch: int) -> None:
    datamodule, found = trainer.datamodule, model.validated["val"]  # type: ignore[attr-defined]
    records = datamodule.data.records.select(datamodule.data.rows("val"))
    predictions = Predictions(
        labels=model.labels,
        paths=np.array(list(records.texts("path")), dtype=object),
        patient_ids=np.array(list(records.texts("patient_id")), dtype=object),
        targets=found["target"].numpy(),
        logits=found["logits"].double().numpy(),
        prior_log_odds=float(model.settings["prior_log_odds"]),
    )
    when = f"after epoch {epoch}"
    figure, _ = error_picture(predictions, datamodule.rows_of("val"), _validated_model(trainer, model), when=when)
    writer.add_figure("epochs/val_errors", figure, epoch)
    writer.add_figure("epochs/val_confusion", confusion_picture(predictions, when=when), epoch)


def _validated_model(trainer: Trainer, model: PneumoniaClassifier) -> PneumoniaClassifier:
    """A copy of what was validated, of the average where there is one, so that nothing of training is touched."""
    averages = [c._average_model for c in trainer.callbacks if isinstance(c, AveragedWeights)]  # type: ignore[attr-defined]
    seen = next((average.module for average in averages if average is not None), model)
    with torch.random.fork_rng(devices=[]):
        copy = PneumoniaClassifier(model.settings)
    copy.load_state_dict(seen.state_dict())
    return copy.use_channels_last().to(model.device).eval()
