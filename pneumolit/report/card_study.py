"""The model card up to the partitions: what the study is, the data, the reference standard."""

from __future__ import annotations

from typing import Any

from pneumolit.report.card_entry import ANSWERED, OPEN, PARTLY, Entry, cannot
from pneumolit.report.provenance import KAGGLE, Provenance
from pneumolit.report.run_record import RunRecord, set_title
from pneumolit.report.run_tables import sides_table
from pneumolit.report.tables import headline_rule, rule_label, with_interval

_CHAPTERS = ("Title and summary", "Introduction", "Data", "Reference standard", "Partitions")


def study_entries(record: RunRecord, known: Provenance) -> list[Entry]:
    """Title, introduction, data, reference standard and partitions."""
    return [
        *_introduction(record, known),
        *_data(record, known),
        *_reference(record, known),
        *_partitions(record),
    ]


def headline_sentence(name: str, metrics: dict[str, Any]) -> str:
    """The result of one set in one line."""
    images, patients, intervals = f"{metrics['num_images']:,}", f"{metrics['num_patients']:,}", metrics["intervals"]
    if "rules" not in metrics:
        value = with_interval(metrics["class_view"]["accuracy"], intervals["class_view"]["accuracy"])
        return f"{set_title(name)} ({images} images, {patients} patients): accuracy over all classes {value}."
    rule = headline_rule(metrics)
    auroc = with_interval(metrics["ranking"]["auroc"], intervals["ranking"]["auroc"])
    rates, ranges = metrics["rules"][rule], intervals["rules"][rule]
    sensitivity = with_interval(rates["sensitivity"], ranges.get("sensitivity"))
    specificity = with_interval(rates["specificity"], ranges.get("specificity"))
    return (
        f"{set_title(name)} ({images} images, {patients} patients): AUROC {auroc}, sensitivity {sensitivity}, "
        f"specificity {specificity} by the {rule_label(rule)} rule."
    )


def _introduction(record: RunRecord, known: Provenance) -> list[Entry]:
    title, introduction = _CHAPTERS[:2]
    classes = ", ".join(record.data["classes"])
    name = record.environment["weights"]["name"]
    images = sum(side.num_images for side in record.sides.values())
    goal = (
        "To develop a classifier and to estimate how well it tells the classes apart on images of the same collection: "
        "development and internal testing. No hypothesis was written down beforehand."
    )
    role = (
        "Diagnostic: pneumonia against its absence on one frontal chest radiograph. Meant for research and teaching; "
        "it has no place in a care pathway, and no user in care is foreseen."
    )
    return [
        Entry(title, "Title", (1,), ("1",), (f"Deep-learning classifier ({name}) of chest radiographs: {classes}.",
              "Development and evaluation of a diagnostic prediction model."), "config.yaml, data.json"),
        Entry(title, "Summary", (2,), ("2",), (f"{images:,} images of the data set: {known.name}.",
              headline_sentence(record.main_set, record.main)), "split.csv, metrics.json"),
        Entry(introduction, "Background and intended use", (3,), ("3a", "3b"), (role,), "README"),
        Entry(introduction, "Health inequalities", (), ("3c",),
              (cannot("nothing in it tells one group of people from another."),), "", OPEN),
        Entry(introduction, "Aims", (4,), ("4",), (goal,), "config.yaml"),
    ]  # fmt: skip


def _data(record: RunRecord, known: Provenance) -> list[Entry]:
    chapter = _CHAPTERS[2]
    by_set = known.source
    return [
        _told(chapter, "Prospective or retrospective", (5,), (), known.design, by_set, "how the images were gathered."),
        Entry(chapter, "Goal of the study", (6,), (),
              ("Model creation. Not a trial, and no test of superiority or non-inferiority.",), "README"),
        Entry(chapter, "Sources of the data", (7,), ("5a",), (f"Data set: {known.name}.", *_some(known.population)),
              by_set, ANSWERED if known is KAGGLE else PARTLY),
        Entry(chapter, "Dates", (), ("5b",), (cannot("no date of an image is in it."),), "", OPEN),
        _told(chapter, "Setting and centres", (), ("6a",), known.population, by_set, "hospitals and setting."),
        _told(chapter, "Inclusion and exclusion", (8,), ("6b",), known.eligibility, by_set,
              "how the images were selected.", PARTLY),
        Entry(chapter, "Treatments", (), ("6c",), (cannot("no treatment is recorded in it."),), "", OPEN),
        Entry(chapter, "Preprocessing", (9,), ("7", "12b"), _preprocessing(record), "config.yaml, data.json"),
        Entry(chapter, "Selection of subsets", (10,), (), _left_out(record), "config.yaml, split.csv"),
        Entry(chapter, "De-identification", (11,), (),
              (*_some(known.privacy), cannot("how names and dates were removed from the images.")),
              by_set if known.privacy else "", PARTLY if known.privacy else OPEN),
        Entry(chapter, "Missing data", (12,), ("11",), _missing(record), "config.yaml, data.json", PARTLY),
        _told(chapter, "Acquisition", (13,), (), known.acquisition, by_set, "projection, device and exposure.", PARTLY),
    ]  # fmt: skip


def _reference(record: RunRecord, known: Provenance) -> list[Entry]:
    chapter = _CHAPTERS[3]
    positive = ", ".join(record.data["positive"]) or "no class"
    classes = (f"The classes are {', '.join(record.data['classes'])}; of these, pneumonia: {positive}.",)
    return [
        Entry(chapter, "Definition of the outcome", (14,), ("8a",),
              (*classes, *(_some(known.labels) or (cannot("by what definition the labels were given."),)),
               "The state at the time of the image; there is no time horizon."),
              f"data.json; {known.source}" if known.labels else "data.json", PARTLY),
        Entry(chapter, "Why this reference standard", (15,), (),
              (cannot("no reason is given, and no other standard (culture, computed tomography, course) is in it."),),
              "", OPEN),
        _told(chapter, "Who gave the labels", (16,), ("8b",), known.readers, known.source, "who read the images.",
              PARTLY),
        _told(chapter, "Labels of the test images", (17,), (), known.test_labels, known.source,
              "whether test images were read otherwise, and with which tool.", PARTLY),
        Entry(chapter, "Agreement of the readers", (18,), (),
              (cannot("it holds one label per image and not those of single readers."),), "", OPEN),
        Entry(chapter, "Blinding", (), ("8c",), (cannot("whether readers knew the course or other findings."),), "",
              OPEN),
        Entry(chapter, "Predictors", (), ("9a", "9b"),
              ("The only predictor is the image: gray values, without age, sex, symptoms or laboratory values. None "
               "was chosen beforehand.",), "config.yaml"),
        Entry(chapter, "Reading of the predictors", (), ("9c",),
              ("Does not apply: no person reads the image before the model does.",), "config.yaml"),
    ]  # fmt: skip


def _partitions(record: RunRecord) -> list[Entry]:
    chapter = _CHAPTERS[4]
    return [
        Entry(chapter, "How images were assigned", (19,), ("12a",), _assignment(record), "config.yaml, split.csv",
              tables=(sides_table(record),) if record.sides else ()),
        Entry(chapter, "Level at which sides are apart", (20,), (), _disjoint(record), "config.yaml, split.csv"),
        Entry(chapter, "Sample size", (21,), ("10",),
              ("No sample size was computed: the data set is what it is. How far its size reaches can be seen from the "
               "width of the intervals.",), "metrics.json"),
        Entry(chapter, "Class imbalance", (), ("13",), _imbalance(record), "config.yaml, data.json"),
        Entry(chapter, "Differences between development and evaluation data", (), ("16",), _differences(record),
              "split.csv, metrics.json", PARTLY),
    ]  # fmt: skip


def _told(
    chapter: str,
    title: str,
    claim: tuple[int, ...],
    tripod: tuple[str, ...],
    answer: str,
    source: str,
    missing: str,
    state: str = ANSWERED,
) -> Entry:
    """What is known of the data set, or that it is not."""
    if answer:
        return Entry(chapter, title, claim, tripod, (answer,), source, state)
    return Entry(chapter, title, claim, tripod, (cannot(f"the record does not hold {missing}"),), "", OPEN)


def _some(text: str) -> tuple[str, ...]:
    return (text,) if text else ()


def _preprocessing(record: RunRecord) -> tuple[str, ...]:
    settings = record.settings
    scaling = {
        "weights": "Intensities are scaled as the starting weights expect it.",
        "imagenet": "Intensities are scaled by the mean and standard deviation of ImageNet.",
        "unit": "Intensities are scaled to the range from 0 to 1.",
    }
    return (
        f"Files become 8-bit gray images (color to luminance, 16 bits scaled), turned upright, squashed to a square of "
        f"{record.data['stored_side']} pixels; the model sees {settings['model.image_size']} pixels.",
        scaling[settings["data.normalize"]],
        cannot("whether quality differs between groups of people."),
    )


def _left_out(record: RunRecord) -> tuple[str, ...]:
    dropped = record.sides["dropped"].num_images if "dropped" in record.sides else 0
    answers = [f"{dropped:,} images of the training side were left out (exact copies, or to balance the classes)."]
    if record.config["data"]["holdout_fraction"]:
        answers.append(
            "Blocks of patient numbers were set aside from the training side before validation was drawn; they take "
            "part in no choice."
        )
    return tuple(answers)


def _missing(record: RunRecord) -> tuple[str, ...]:
    unreadable = len(record.data["unreadable"])
    return (
        f"{unreadable} files could not be read (data.on_bad_image={record.config['data']['on_bad_image']}). The model "
        "uses no other variable, so none can be missing.",
        cannot("which patients or images never reached the collection."),
    )


def _assignment(record: RunRecord) -> tuple[str, ...]:
    data = record.config["data"]
    if data["split_file"] is not None:
        return ("The sides come from a given split file.",)
    if data["resplit"] is not None:
        shares = ", ".join(f"{share:g}" for share in data["resplit"])
        return (f"All images were divided anew into train, validation and test by the shares {shares}.",)
    origin = "The test side is the one that the data set names."
    if data["folds"] is not None:
        return (origin, f"Validation is fold {data['fold'] + 1} of {data['folds']}, by whole patients.")
    share = f"{100 * data['val_fraction']:g}"
    if data["carve"] == "blocks":
        return (origin, f"Validation is a contiguous block of patient numbers, {share} % of the training side.")
    return (
        origin,
        f"Validation was drawn from the training side by whole patients, stratified by class and cause: {share} %, "
        "unless the data set names its own.",
    )


def _disjoint(record: RunRecord) -> tuple[str, ...]:
    key = record.config["data"]["patient_key"]
    pairs = [("train", name) for name in ("val", "block", "block2", "block3", "test") if name in record.sides]
    shared = ", ".join(f"{set_title(b)} {record.shared_patients(a, b)}" for a, b in pairs)
    return (
        f"Patients, as far as file names or the list tell them apart (data.patient_key={key}).",
        f"Patients that training shares with other sides: {shared}.",
    )


def _imbalance(record: RunRecord) -> tuple[str, ...]:
    settings = record.settings
    odds = record.data["prior_log_odds"]
    weights = settings.get("loss.class_weight") or "none"
    return (
        f"Balancing of the training images: data.balance={settings['data.balance']}, loss.class_weight={weights}.",
        f"The two-class logit is moved by {-odds:+.3f}, the log odds that training saw, and calibrated on validation.",
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
