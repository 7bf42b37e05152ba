"""The model card up to the partitions: what the study is, the data, the reference standard."""

from __future__ import annotations

from pneumolit.report.card_entry import ANSWERED, OPEN, PARTLY, Entry, cannot
from pneumolit.report.card_partitions import NO_TEST, partition_entries
from pneumolit.report.provenance import KAGGLE, PHANTOMS, Provenance
from pneumolit.report.run_record import RunRecord, set_title
from pneumolit.report.run_tables import why_dropped
from pneumolit.report.tables import headline_rule, rule_label, with_interval
from pneumolit.stage_plan import plan_stages

_CHAPTERS = ("Title and summary", "Introduction", "Data", "Reference standard")


def study_entries(record: RunRecord, known: Provenance) -> list[Entry]:
    """Title, introduction, data, reference standard and partitions."""
    return [
        *_introduction(record, known),
        *_data(record, known),
        *_reference(record, known),
        *partition_entries(record),
    ]


def headline_sentence(record: RunRecord, name: str) -> str:
    """The result of one set in one line."""
    metrics = record.evaluations[name]
    intervals = metrics["intervals"]
    patients = f", {metrics['num_patients']:,} patients" if record.knows_patients(name) else ""
    start = f"{set_title(name)} ({metrics['num_images']:,} images{patients}):"
    if "rules" not in metrics:
        value = with_interval(metrics["class_view"]["accuracy"], intervals["class_view"]["accuracy"])
        return f"{start} accuracy over all classes {value}."
    rule = headline_rule(metrics)
    auroc = with_interval(metrics["ranking"]["auroc"], intervals["ranking"]["auroc"])
    rates, ranges = metrics["rules"][rule], intervals["rules"][rule]
    sensitivity = with_interval(rates["sensitivity"], ranges.get("sensitivity"))
    specificity = with_interval(rates["specificity"], ranges.get("specificity"))
    return (
        f"{start} AUROC {auroc}, sensitivity {sensitivity}, specificity {specificity} by the {rule_label(rule)} rule."
    )


def _introduction(record: RunRecord, known: Provenance) -> list[Entry]:
    title, introduction = _CHAPTERS[:2]
    classes = ", ".join(record.data["classes"])
    name = record.environment["weights"]["name"]
    images = sum(side.num_images for side in record.sides.values())
    goal = _GOAL if record.has_test else _GOAL_WITHOUT_TEST
    if known is PHANTOMS:
        what, role = f"Deep-learning classifier ({name}) of synthetic chest phantoms: {classes}.", _ROLE_PHANTOMS
    else:
        what = f"Deep-learning classifier ({name}) of chest radiographs: {classes}."
        role = _ROLE if record.data["positive"] else _ROLE_WITHOUT_PNEUMONIA
    is_diagnostic = bool(record.data["positive"]) and known is not PHANTOMS
    kind = (
        "Development and evaluation of a diagnostic prediction model."
        if is_diagnostic
        else "Development and evaluation of a classifier."
    )
    return [
        Entry(title, "Title", (1,), ("1",), (what, kind), "config.yaml, data.json"),
        Entry(title, "Summary", (2,), ("2",), (f"{images:,} images of the data set: {known.name}.",
              headline_sentence(record, record.main_set)), "split.csv, metrics.json"),
        Entry(introduction, "Background and intended use", (3,), ("3a", "3b"), (role,), "README"),
        Entry(introduction, "Health inequalities", (), ("3c",),
              (cannot("nothing in it tells one group of people from another."),), "", OPEN),
        Entry(introduction, "Aims", (4,), ("4",), (goal,), "config.yaml"),
    ]  # fmt: skip


_GOAL = (
    "To develop a classifier and to estimate how well it tells the classes apart on images of the same collection: "
    "development and internal testing. No hypothesis was written down beforehand."
)
_GOAL_WITHOUT_TEST = (
    "To develop a classifier. There is no test side: how well it tells the classes apart is known on validation images "
    "alone. No hypothesis was written down beforehand."
)
_ROLE = (
    "Diagnostic: pneumonia against its absence on one frontal chest radiograph. Meant for research and teaching; "
    "it has no place in a care pathway, and no user in care is foreseen."
)
_ROLE_WITHOUT_PNEUMONIA = (
    "To tell the classes of the data apart; no class means pneumonia. Meant for research and teaching; it has no place "
    "in a care pathway, and no user in care is foreseen."
)
_ROLE_PHANTOMS = (
    "To show that the machinery works. It learned from drawn phantoms, says nothing about radiographs and has no place "
    "in a care pathway."
)


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
        _test_labels(chapter, record, known),
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


def _test_labels(chapter: str, record: RunRecord, known: Provenance) -> Entry:
    """What is said of the set's own test images holds for no others."""
    title, missing = "Labels of the test images", "whether test images were read otherwise, and with which tool."
    if not record.has_test:
        return Entry(chapter, title, (17,), (), (NO_TEST,), "split.csv")
    answer = "" if known is KAGGLE and not record.has_given_test else known.test_labels
    return _told(chapter, title, (17,), (), answer, known.source, missing, PARTLY)


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
        *_training_sizes(record),
        scaling[settings["data.normalize"]],
        cannot("whether quality differs between groups of people."),
    )


def _training_sizes(record: RunRecord) -> tuple[str, ...]:
    """Of stages that train at another size than the model is scored at."""
    scored = int(record.settings["model.image_size"])
    models = [stage.cfg["model"] for stage in plan_stages(record.config)]
    sizes = [int(model.get("train_size") or model["image_size"]) for model in models]
    if set(sizes) == {scored}:
        return ()
    return (f"It was trained at {', '.join(map(str, dict.fromkeys(sizes)))} pixels.",)


def _left_out(record: RunRecord) -> tuple[str, ...]:
    dropped = record.sides["dropped"].num_images if "dropped" in record.sides else 0
    left_out = f"{dropped:,} images of the training side were left out ({why_dropped(record)})."
    return (left_out, _blocks(record)) if record.config["data"]["holdout_fraction"] else (left_out,)


def _blocks(record: RunRecord) -> str:
    """What blocks of patient numbers were set aside, and whether one of them chooses."""
    monitor = str(record.last_stage["callbacks"]["checkpoint"].get("monitor"))
    does_choose = record.choosing_metric is not None
    if monitor.startswith("block/") and does_choose:
        return (
            "Blocks of patient numbers were set aside from the training side before validation was drawn; the first "
            f"chooses checkpoints and ranks sweeps ({monitor}); any further ones take part in no choice."
        )
    if monitor.startswith("block/"):
        return (
            "Blocks of patient numbers were set aside from the training side before validation was drawn; the first "
            f"ranks sweeps ({monitor}); any further ones take part in no choice."
        )
    if monitor.startswith("block") and does_choose:
        return (
            "Blocks of patient numbers were set aside from the training side before validation was drawn; one of them "
            f"chooses checkpoints and ranks sweeps ({monitor}); the others take part in no choice."
        )
    if monitor.startswith("block"):
        return (
            "Blocks of patient numbers were set aside from the training side before validation was drawn; one of them "
            f"ranks sweeps ({monitor}); the others take part in no choice."
        )
    return (
        "Blocks of patient numbers were set aside from the training side before validation was drawn; they take "
        "part in no choice."
    )


def _missing(record: RunRecord) -> tuple[str, ...]:
    unreadable = len(record.data["unreadable"])
    return (
        f"{unreadable} files could not be read (data.on_bad_image={record.config['data']['on_bad_image']}). The model "
        "uses no other variable, so none can be missing.",
        cannot("which patients or images never reached the collection."),
    )
