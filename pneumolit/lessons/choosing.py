"""Lessons about what is chosen by looking: a threshold, the best of many runs."""

from __future__ import annotations

import shutil

import numpy as np
import torch

from pneumolit.data.augment import resize_batch
from pneumolit.data.datamodule import image_rows, padded_batches
from pneumolit.data.dataset import ChestXrayData
from pneumolit.evaluation.metrics import roc_curve
from pneumolit.lessons.finding import POINTS, Finding, balanced_accuracy, points, shown
from pneumolit.lessons.taught import Taught, met_later, scores_of
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.features import inference
from pneumolit.predictions import Predictions
from pneumolit.training.fit import note_look

_DRAWS = 200  # test sets, in the lesson on thresholds


def threshold_on_test(taught: Taught) -> Finding:
    """A threshold that looks best on test, there and on new patients, beside one that was fixed on validation.

    The number is an average over test sets, since in a single one the choosing may have cost nothing or 13 points.
    """
    val, test, new = taught.validation("model"), taught.test("model"), taught.new_patients("model")
    seen, fixed = best_threshold(test), best_threshold(val)
    there, later = gains_over_draws(test, new, fixed, np.random.default_rng(taught.lesson.cfg["seed"]))
    lost = points(there, later)

    def rate(predictions: Predictions, threshold: float) -> float:
        return balanced_accuracy(predictions.positives, predictions.scores >= threshold)

    return Finding(
        sentence=(
            f"Chosen on test instead of validation, a threshold changes balanced accuracy by {100 * there:+.1f} points "
            f"on test and by {100 * later:+.1f} on new patients, on average over {_DRAWS} test sets of "
            f"{len(test.scores)} films: {lost:.1f} points are the choosing."
        ),
        number=lost,
        unit=POINTS,
        rows=(
            ("threshold chosen on test: balanced accuracy on test", shown(rate(test, seen))),
            ("threshold chosen on test: balanced accuracy in new patients", shown(rate(new, seen))),
            ("threshold chosen on validation: balanced accuracy on test", shown(rate(test, fixed))),
            ("threshold chosen on validation: balanced accuracy in new patients", shown(rate(new, fixed))),
        ),
    )


def gains_over_draws(
    test: Predictions, new: Predictions, fixed: float, rng: np.random.Generator, draws: int = _DRAWS
) -> tuple[float, float]:
    """What choosing the threshold on a test set gains over a fixed one: in that set, and in the patients it is of.

    Args:
        test: says how many films of each class a test set has.
        new: the patients, both classes; the sets are drawn from them with replacement.
        fixed: threshold.
        rng: draws the sets.
        draws: how many.

    Returns:
        Mean differences of balanced accuracy, as rates.
    """
    groups = [(np.flatnonzero(new.positives == ill), int(np.sum(test.positives == ill))) for ill in (0, 1)]
    gains = np.empty((draws, 2))
    for draw in range(draws):
        drawn = new.take(np.concatenate([rng.choice(group, count) for group, count in groups]))
        seen = best_threshold(drawn)
        for place, of in enumerate((drawn, new)):
            rates = [balanced_accuracy(of.positives, of.scores >= threshold) for threshold in (seen, fixed)]
            gains[draw, place] = rates[0] - rates[1]
    return float(gains[:, 0].mean()), float(gains[:, 1].mean())


def best_threshold(predictions: Predictions) -> float:
    """The score from which on calling pneumonia gives the highest balanced accuracy in these films."""
    fpr, tpr, thresholds = roc_curve(predictions.positives, predictions.scores)
    return float(thresholds[np.argmax(tpr - fpr)])


def best_of_20(taught: Taught) -> Finding:
    """The best of many equal runs by test: how far it stands out there, and among new patients."""
    names = list(taught.runs)
    own, new = taught.own_data(names[0]), taught.new_data(names[0])
    is_one_backbone = all(cfg["freeze"]["policy"] == "head" for cfg in taught.cfgs.values())
    on_test, on_new = (Films(d, rows, is_one_backbone) for d, rows in ((own, own.rows("test")), (new, met_later(new))))
    test_rates, new_rates = np.empty(len(names)), np.empty(len(names))
    for place, name in enumerate(names):
        model = taught.model(name)
        note_look(taught.cfgs[name], taught.runs[name], own.set_fingerprint("test"), purpose="lesson best_of_20")
        test_rates[place], new_rates[place] = on_test.rate(model), on_new.rate(model)
    best = int(np.argmax(test_rates))
    _keep_weights_of(names[best], taught)
    ahead, stays = points(test_rates[best], test_rates.mean()), points(new_rates[best], new_rates.mean())
    lost = round(ahead - stays, 1)
    return Finding(
        sentence=(
            f"The best of {len(names)} by test stood {ahead:+.1f} points from their average there and {stays:+.1f} "
            f"among new patients: {lost:.1f} points were the luck of the draw."
        ),
        number=lost,
        unit=POINTS,
        rows=(
            (f"balanced accuracy on test, the best of {len(names)}", shown(test_rates[best])),
            (f"balanced accuracy on test, average of {len(names)}", shown(test_rates.mean())),
            ("balanced accuracy in new patients, that same run", shown(new_rates[best])),
            (f"balanced accuracy in new patients, average of {len(names)}", shown(new_rates.mean())),
        ),
    )


def _keep_weights_of(chosen: str, taught: Taught) -> None:
    """Twenty times the weights of a whole backbone would fill half a gigabyte; only the chosen run is used further."""
    for name, run in taught.runs.items():
        if name != chosen:
            shutil.rmtree(run.checkpoint_folder, ignore_errors=True)


class Films:
    """Films that many models are asked about.

    Args:
        data: opened.
        rows: of its store.
        is_one_backbone: whether the models differ in their heads alone: the features are then computed once.
    """

    def __init__(self, data: ChestXrayData, rows: np.ndarray, is_one_backbone: bool) -> None:
        self.rows, self.is_one_backbone = image_rows(data, rows), is_one_backbone
        self.positives = data.labels.positive_mask[self.rows.targets]
        self._features: torch.Tensor | None = None

    def scores(self, model: PneumoniaClassifier) -> np.ndarray:
        """`(N,)` two-class logit of one model, as `predict_logits` would lead to."""
        model.eval().take_apart()
        with inference(model.device, "float32"):
            if self._features is None or not self.is_one_backbone:
                size = int(model.settings["image_size"])
                self._features = torch.cat(
                    [
                        model.features(resize_batch(batch["image"].to(model.device), size))[:count]
                        for batch, count in padded_batches(self.rows)
                    ]
                )
            return scores_of(model.logits_of({"features": self._features}).cpu().double().numpy(), model)

    def rate(self, model: PneumoniaClassifier) -> float:
        """Balanced accuracy of one model."""
        return balanced_accuracy(self.positives, self.scores(model) > 0)
