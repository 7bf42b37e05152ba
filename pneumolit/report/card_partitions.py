"""The model card's partitions: how images came to their sides, and what that leaves between them."""

from __future__ import annotations

from pneumolit.report.card_entry import ANSWERED, PARTLY, Entry, cannot, of_stages
from pneumolit.report.evaluation import PATIENTS_UNKNOWN
from pneumolit.report.run_record import RunRecord, set_title
from pneumolit.report.run_tables import sides_table
from pneumolit.stage_plan import Stage, plan_stages

NO_TEST = "There is no test side."
_CHAPTER = "Partitions"


def partition_entries(record: RunRecord) -> list[Entry]:
    """Assignment, disjointness, sizes and differences of the sides."""
    chapter = _CHAPTER
    return [
        Entry(chapter, "How images were assigned", (19,), ("12a",), _assignment(record), "config.yaml, split.csv",
              tables=(sides_table(record),) if record.sides else ()),
        Entry(chapter, "Level at which sides are apart", (20,), (), _disjoint(record), "config.yaml, split.csv",
              ANSWERED if record.has_patients else PARTLY),
        Entry(chapter, "Sample size", (21,), ("10",),
              ("No sample size was computed: the data set is what it is. How far its size reaches can be seen from the "
               "width of the intervals.",), "metrics.json"),
        Entry(chapter, "Class imbalance", (), ("13",), _imbalance(record), "config.yaml, data.json"),
        Entry(chapter, "Differences between development and evaluation data", (), ("16",), _differences(record),
              "split.csv, metrics.json", PARTLY),
    ]  # fmt: skip


def _assignment(record: RunRecord) -> tuple[str, ...]:
    share = record.config["data"].get("train_fraction", 1)
    if share == 1:
        return _sides(record)
    return (*_sides(record), f"A share of {share:g} of the training images trains, by whole patients.")


def _sides(record: RunRecord) -> tuple[str, ...]:
    data = record.config["data"]
    if data["split_file"] is not None:
        return ("The sides come from a given split file.",)
    if data["resplit"] is not None:
        shares = ", ".join(f"{share:g}" for share in data["resplit"])
        return (f"All images were divided anew into train, validation and test by the shares {shares}.",)
    origin = "The test side is the one that the data set names." if record.has_test else NO_TEST
    if data["folds"] is not None:
        return (origin, f"Validation is fold {data['fold'] + 1} of {data['folds']}, by whole patients.")
    if data["carve"] == "official":
        return (origin, "The validation side is the one that the data set names.")
    share = f"{100 * data['val_fraction']:g}"
    if data["carve"] == "blocks":
        return (origin, f"Validation is a contiguous block of patient numbers, {share} % of the training side.")
    if not data.get("stratify", True):
        return (origin, f"Validation was drawn from the training side by whole patients, not stratified: {share} %.")
    return (
        origin,
        f"Validation was drawn from the training side by whole patients, stratified by class and cause: {share} %, "
        "unless the data set names its own.",
    )


def _disjoint(record: RunRecord) -> tuple[str, ...]:
    key = record.config["data"]["patient_key"]
    pairs = [("train", name) for name in ("val", "block", "block2", "block3", "test") if name in record.sides]
    shared = ", ".join(f"{set_title(b)} {record.shared_patients(a, b)}" for a, b in pairs)
    if not record.has_patients:
        return (PATIENTS_UNKNOWN,)
    apart = f"Patients, as far as file names tell them apart (data.patient_key={key})."
    if record.config["data"]["source"] == "manifest":
        apart = "Patients, as the column patient_id of the list tells them apart."
    return (apart, f"Patients that training shares with other sides: {shared}.") if pairs else (apart,)


def _imbalance(record: RunRecord) -> tuple[str, ...]:
    odds = record.data["prior_log_odds"]
    balancing = of_stages(plan_stages(record.config), _balancing)
    if not record.data["positive"]:
        return balancing
    if not record.calibration.get("calibration"):
        return (*balancing, f"The two-class logit is moved by {-odds:+.3f}, the log odds that training saw.")
    return (
        *balancing,
        f"The two-class logit is moved by {-odds:+.3f}, the log odds that training saw, and calibrated on validation.",
    )


def _balancing(stage: Stage) -> str:
    weights = stage.cfg["loss"].get("class_weight") or "none"
    return (
        f"Balancing of the training images: data.balance={stage.cfg['data']['balance']}, loss.class_weight={weights}."
    )


def _differences(record: RunRecord) -> tuple[str, ...]:
    metrics = record.main
    if "prevalence" not in metrics or "train" not in record.sides:
        return (cannot("setting, eligibility and device of the sides."),)
    side = record.sides["train"]
    positive = sum(side.classes.get(name, 0) for name in record.data["positive"])
    return (
        f"Share of pneumonia: {positive / max(side.num_images, 1):.3f} in training, {metrics['prevalence']:.3f} in "
        f"{set_title(record.main_set)}.",
        cannot("setting, eligibility and device of the sides."),
    )
