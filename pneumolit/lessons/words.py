"""What a lesson asks before its number is known, and what to do instead of the mistake."""

from __future__ import annotations

from typing import NamedTuple


class Words(NamedTuple):
    """Title, question to the class, remedy; English."""

    title: str
    question: str
    remedy: str


WORDS = {
    "patient_split": Words(
        "Images or patients",
        "Every patient has several films. What does a model learn when some of them are in training and others in "
        "validation?",
        "Split by patients: data.patient_key=full, the default.",
    ),
    "validation_of_16": Words(
        "Sixteen films of validation",
        "The official validation folder holds 16 films. How far can their accuracy be from the truth?",
        "Carve a larger validation set from training (data.val_fraction) and read the interval, not the number.",
    ),
    "threshold_on_test": Words(
        "A threshold chosen on test",
        "The ROC curve of the test split shows which threshold is best. Why not use it?",
        "Fix the threshold on validation; calibration.json does, before test is looked at.",
    ),
    "best_of_20": Words(
        "The best of twenty by test",
        "Twenty runs differ in their draws alone. How good is the one that is best on test?",
        "Choose by validation, look at test once, and report the mean over seeds; test_looks.jsonl counts the looks.",
    ),
    "augmented_validation": Words(
        "Augmented validation",
        "Training turns, crops and brightens the films. What does validation say when it does so too?",
        "Augment training alone; validation sees every film as it is, and the same film every time.",
    ),
    "batch_norm": Words(
        "Batch norm at inference",
        "A film is scored beside 63 others. May they change what the model says about it?",
        "Score with the statistics of training: model.bn_inference=running, the default.",
    ),
    "class_mix": Words(
        "Accuracy under another class mix",
        "Three of four films show pneumonia here, one of ten on another ward. What becomes of the accuracy?",
        "Report sensitivity and specificity, and predictive values for the place: evaluate prevalence=0.1.",
    ),
}
