"""predictions.csv gives back what was written."""

from __future__ import annotations

import numpy as np
import pytest

from pneumolit.labels import LabelSet
from pneumolit.predictions import Predictions


def table(labels: LabelSet, count: int = 6) -> Predictions:
    rng = np.random.default_rng(0)
    odd = ["a,b.jpeg", 'quote".jpeg', "new\nline.jpeg", "日本.jpeg", "plain.jpeg", "sub/x.jpeg"]
    return Predictions(
        labels=labels,
        paths=np.array(odd[:count], dtype=object),
        patient_ids=np.array([f"p{i // 2}" for i in range(count)], dtype=object),
        targets=np.arange(count) % labels.num_classes,
        logits=rng.normal(size=(count, labels.num_classes)).astype(np.float32).astype(np.float64),
        prior_log_odds=0.7,
        causes=np.array(["bacteria", "", "virus", "", "", ""][:count], dtype=object),
        is_copy=np.arange(count) == 3,
    )


@pytest.mark.parametrize(
    "labels", [LabelSet(("NORMAL", "BACTERIA", "VIRUS"), ("BACTERIA", "VIRUS")), LabelSet(("knee", "chest"))]
)
def test_csv_gives_every_value_back(labels: LabelSet) -> None:
    before = table(labels)
    after = Predictions.from_csv(before.to_csv(), labels.positive, 0.7)
    for name in ("paths", "patient_ids", "targets", "causes", "is_copy"):
        assert getattr(after, name).tolist() == getattr(before, name).tolist()
    assert np.array_equal(after.logits.astype(np.float32), before.logits.astype(np.float32))
    assert after.labels == labels


def test_score_is_the_two_class_logit_without_the_training_prior() -> None:
    predictions = table(LabelSet(("NORMAL", "PNEUMONIA"), ("PNEUMONIA",)))
    assert predictions.scores == pytest.approx(predictions.logits[:, 1] - predictions.logits[:, 0] - 0.7)


def test_a_table_without_a_column_is_refused() -> None:
    with pytest.raises(ValueError, match=r"lack the columns \['score'\]"):
        Predictions.from_csv("path,patient_id,target,pred,logit_A,logit_B\n", (), 0.0)


def test_columns_of_different_length_are_refused() -> None:
    with pytest.raises(ValueError, match="targets has 1 rows, paths has 2"):
        Predictions(LabelSet(("A", "B")), np.array(["a", "b"]), np.array(["p", "q"]), np.array([0]), np.zeros((2, 2)))
