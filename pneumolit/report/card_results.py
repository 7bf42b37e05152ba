"""The model card's end: results, discussion, and what a paper says besides."""

from __future__ import annotations

from pneumolit.report import tables
from pneumolit.report.card_entry import ANSWERED, AUTHORS, PARTLY, Entry, cannot, for_authors
from pneumolit.report.card_study import headline_sentence
from pneumolit.report.evaluation import PATIENTS_UNKNOWN
from pneumolit.report.may_i_use import failures
from pneumolit.report.provenance import KAGGLE, PHANTOMS, Provenance
from pneumolit.report.run_record import RunRecord
from pneumolit.report.run_tables import sets_table, sides_table

_CHAPTERS = ("Results", "Discussion", "Other information")


def result_entries(record: RunRecord, known: Provenance) -> list[Entry]:
    """Results, discussion and the rest."""
    return [*_results(record), *_discussion(record, known), *_rest(record, known)]


def _results(record: RunRecord) -> list[Entry]:
    chapter = _CHAPTERS[0]
    subgroups = tables.subgroup_table(record.main) if record.main.get("subgroups") else None
    sides = (sides_table(record),) if record.sides else ()
    return [
        Entry(chapter, "Flow of patients and images", (35,), ("20a", "21"),
              ("Images and patients of every side, and what was left out:",), "split.csv", tables=sides),
        Entry(chapter, "Characteristics of those imaged", (36,), ("20b", "20c"),
              ("Classes are in the table of the entry before this one.",
               cannot("age, sex, ethnicity, device, dates and clinical state are not in it.")), "split.csv", PARTLY),
        Entry(chapter, "Performance", (37, 38), ("23a",),
              tuple(headline_sentence(record, name) for name in record.evaluations),
              "metrics.json", tables=(sets_table(record), *((subgroups,) if subgroups else ()))),
        Entry(chapter, "Analysis of the errors", (39,), (), _errors(record), "metrics.json, predictions.csv"),
    ]  # fmt: skip


def _errors(record: RunRecord) -> tuple[str, ...]:
    if "rules" not in record.main:
        return ("No class means pneumonia; the confusion matrix of all classes is on the page of the run.",)
    return (*failures(record), "The most certain errors are listed on the page of the run.")


def _discussion(record: RunRecord, known: Provenance) -> list[Entry]:
    chapter = _CHAPTERS[1]
    limits = [
        "One collection: what holds here need not hold elsewhere.",
        "One model of one seed: another seed would give other numbers, and the intervals do not hold that part.",
    ]
    if len(record.looks) > 1:
        limits.append(
            f"This test set was looked at {len(record.looks)} times; whoever chooses between runs by it makes its "
            "numbers too good."
        )
    if known is KAGGLE and record.has_given_test:
        limits.append("Training and test images come from different blocks of patient numbers of one hospital.")
    elif record.config["data"]["split_file"] is not None:
        limits.append("The test side is the one of a given split file, which need not be that of the data set.")
    elif record.config["data"]["resplit"] is not None:
        limits.append("The test side was drawn anew from the whole set.")
    if not record.has_patients:
        limits.append(PATIENTS_UNKNOWN)
    next_steps = (
        "No use in care follows from these numbers. Next: images of other hospitals and devices with age and sex, "
        "labelled by readers whose agreement is known."
    )
    return [
        Entry(chapter, "Interpretation", (), ("25",),
              (headline_sentence(record, record.main_set),
               "How it stands against other runs `python -m pneumolit.compare` tells, with tests for images of the "
               "same patients. Fairness cannot be judged."), "metrics.json", PARTLY),
        Entry(chapter, "Limits", (40,), ("26",), (*limits, *filter(None, (known.negatives_of(record.data),))),
              "metrics.json, test_looks.jsonl" if record.looks else "metrics.json"),
        Entry(chapter, "What follows for practice", (41,), ("27c",), (next_steps,), "may_i_use.html"),
        Entry(chapter, "Poor or missing images", (), ("27a",),
              ("A file that cannot be read is refused. `predict` warns of films that are turned, inverted, noisy, "
               "blurred or flat beyond those of training, and of what a DICOM file says of its body part and view. "
               "Nothing stops it, and what a picture shows no check can tell; a person must.",), "README", PARTLY),
        Entry(chapter, "What users have to do", (), ("27b",),
              ("Choose frontal chest radiographs and start a command. To judge the answer takes somebody who reads "
               "radiographs.",), "README"),
    ]  # fmt: skip


def _rest(record: RunRecord, known: Provenance) -> list[Entry]:
    chapter = _CHAPTERS[2]
    version = record.environment["pneumolit"]
    commit = record.environment["commit"] or "no commit known"
    licence = (f"Images: {known.name}, licence {known.licence}.",) if known.licence else ()
    images = () if known.licence or known is PHANTOMS else (for_authors("whether the images are available."),)
    return [
        Entry(chapter, "Protocol", (42,), ("18c",),
              ("No study protocol was written. config.yaml and the sources of the given version are the technical "
               "details.",), "config.yaml"),
        Entry(chapter, "Software, model and data", (43,), ("18e", "18f"),
              (f"Software: pneumolit {version} ({commit}), Apache-2.0.", "Model: the folder checkpoints/ of this run.",
               *licence, *images), "environment.json", PARTLY if images else ANSWERED),
        Entry(chapter, "Registration", (34,), ("18d",), ("Not a clinical trial; not registered.",), "README"),
        Entry(chapter, "Ethics", (), ("17",), (for_authors("ethics committee and consent."),), "", AUTHORS),
        Entry(chapter, "Funding", (44,), ("18a",), (for_authors("who paid, and what part they took."),), "", AUTHORS),
        Entry(chapter, "Conflicts of interest", (), ("18b",), (for_authors("those of all authors."),), "", AUTHORS),
        Entry(chapter, "Patients and public", (), ("19",),
              (for_authors("whether they took part; the record shows none."),), "", AUTHORS),
    ]  # fmt: skip
