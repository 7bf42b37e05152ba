"""Tables about a run as a whole: what lies on which side, every evaluated set, what trained, looks, environment."""

from __future__ import annotations

from pneumolit.report.run_record import RunRecord, set_title
from pneumolit.report.tables import Table, headline_rule, number, with_interval

MOST_LOOKS = 20
# In the order of a run: what it learned from, what it was chosen on, what stood apart.
_SIDES = ("train", "val", "block", "block2", "block3", "test", "dropped", "unreadable")
_SIDE_TITLES = {
    "unreadable": "left out (unreadable)",
    "": "without a side",
}


def sides_table(record: RunRecord) -> Table:
    """Images, patients and classes of every side of the split."""
    classes = list(record.data["classes"])
    known = [name for side in record.sides.values() for name in side.classes if name not in classes]
    classes += list(dict.fromkeys(known))
    order = [*(name for name in _SIDES if name in record.sides), *(n for n in record.sides if n not in _SIDES)]
    rows = [
        (
            f"left out ({why_dropped(record)})" if name == "dropped" else _SIDE_TITLES.get(name, set_title(name)),
            f"{side.num_images:,}",
            f"{len(side.patients):,}" if record.has_patients else "-",
            *(f"{side.classes.get(label, 0):,}" for label in classes),
        )
        for name, side in ((name, record.sides[name]) for name in order)
    ]
    return Table(("side", "images", "patients", *classes), tuple(rows))


def why_dropped(record: RunRecord) -> str:
    """Why training images were left out, as far as the settings can be the cause."""
    data = record.config["data"]
    if data.get("train_fraction", 1) < 1:
        return "exact copies, or beyond the share of patients that trains"
    if data["balance"] != "undersample":
        return "exact copies"
    return "exact copies, or to balance the classes" if data["duplicates"] == "drop" else "to balance the classes"


def sets_table(record: RunRecord) -> Table:
    """The headline of every evaluated set."""
    rows = []
    for name, metrics in record.evaluations.items():
        if "rules" in metrics:
            rule, intervals = headline_rule(metrics), metrics["intervals"]
            found, ranges = metrics["rules"][rule], intervals["rules"][rule]
            cells = [with_interval(metrics["ranking"]["auroc"], intervals["ranking"]["auroc"])]
            cells += [with_interval(found[k], ranges.get(k)) for k in ("sensitivity", "specificity", "accuracy")]
        else:
            accuracy = metrics["class_view"]["accuracy"], metrics["intervals"]["class_view"]["accuracy"]
            cells = ["n/a", "n/a", "n/a", with_interval(*accuracy)]
        patients = f"{metrics['num_patients']:,}" if record.knows_patients(name) else "n/a"
        rows.append((set_title(name), f"{metrics['num_images']:,}", patients, *cells))
    return Table(("set", "images", "patients", "AUROC", "sensitivity", "specificity", "accuracy"), tuple(rows))


def freeze_table(record: RunRecord) -> Table:
    """What trained in every stage."""
    stages = record.freeze_plan["stages"]
    rows = []
    for index, stage in enumerate(stages, start=1):
        keys = ", ".join(f"{k}={v}" for k, v in stage["settings"].items() if k != "policy")
        norms = len(stage["still_norms"]) + len(stage["moving_norms"])
        rows.append(
            (
                str(index),
                f"{stage['policy']}{' (' + keys + ')' if keys else ''}",
                f"{stage['trainable_count']:,}",
                f"{stage['trainable_count'] + stage['frozen_count']:,}",
                f"{len(stage['still_norms'])} / {norms}",
            )
        )
    header = ("stage", "freeze policy", "trained parameters", "all parameters", "batch norms that stand still")
    return Table(header, tuple(rows), num_labels=2)


def groups_table(record: RunRecord) -> Table:
    """The last stage by coarse groups of the model, front to back."""
    rows = [
        (str(group["name"]), f"{group['parameters']:,}", f"{group['trainable']:,}")
        for group in record.freeze_plan["stages"][-1].get("groups", [])
    ]
    return Table(("group", "parameters", "trained"), tuple(rows))


def looks_table(record: RunRecord) -> Table:
    """The latest looks at this test set and all those of this run, oldest first."""
    run_name = record.run.path.name
    numbered = list(enumerate(record.looks, start=1))
    shown = [(n, look) for n, look in numbered if n > len(numbered) - MOST_LOOKS or _is_own(look, run_name)]
    rows = [
        (
            str(n),
            str(look.get("time", "")),
            _run_of(look) + (" (this run)" if _is_own(look, run_name) else ""),
            str(look.get("configuration", "")),
            str(look.get("purpose", "")),
        )
        for n, look in shown
    ]
    return Table(("look", "time (UTC)", "run", "configuration", "purpose"), tuple(rows), num_labels=5)


def environment_table(record: RunRecord) -> Table:
    """Versions and hardware."""
    environment = record.environment
    weights, precision = environment["weights"], environment["precision"]
    machine = environment["gpus"] or [environment["processor"]]
    rows: list[tuple[str, str]] = [
        ("pneumolit", f"{environment['pneumolit']} ({environment['commit'] or 'no commit known'})"),
        ("Python", environment["python"]),
        ("system", environment["system"]),
        ("device", ", ".join(dict.fromkeys(machine))),
        ("processor threads", str(environment["threads"])),
        ("precision of training", precision["training"]),
        ("precision of scores", precision["scoring"]),
        ("weights at the start", weights_text(record)),
        ("SHA-256 of these weights", str(weights.get("sha256") or "n/a")),
        *((name, version) for name, version in environment["packages"].items()),
    ]
    return Table(("what", "value"), tuple(rows), num_labels=2)


def weights_text(record: RunRecord) -> str:
    """Name and origin of the weights that training began with; of a file its name alone."""
    weights = record.environment["weights"]
    origin = f"{weights['kind']} {last_part(str(weights.get('location') or ''))}".strip()
    return f"{weights['name']} ({origin})"


def epochs_sentence(record: RunRecord) -> str:
    """How many epochs ran, and what the one whose weights were scored gave on validation."""
    count, scored = len(record.epochs), record.scored_epoch
    value = scored.get("val/auroc")
    if value is None:
        return f"{count} epochs."
    if scored is record.epochs[-1]:
        return f"{count} epochs; AUROC on validation after the last one {number(value, 4)}."
    epoch = f"{scored['epoch']:.0f}"
    return f"{count} epochs; AUROC on validation after epoch {epoch}, whose weights were scored, {number(value, 4)}."


def _is_own(look: dict[str, str], run_name: str) -> bool:
    return _run_of(look) == run_name


def _run_of(look: dict[str, str]) -> str:
    """Name of the run's folder: where it lies is nobody's business."""
    return last_part(str(look.get("run", "")))


def scored_text(record: RunRecord, name: str) -> str:
    """What a set consists of."""
    metrics = record.evaluations[name]
    images, patients = f"{metrics['num_images']:,}", f"{metrics['num_patients']:,}"
    return f"{set_title(name)}: {images} images{f' of {patients} patients' if record.knows_patients(name) else ''}"


def interval_text(record: RunRecord) -> str:
    """What the intervals of the headline are."""
    over = "over patients" if record.knows_patients(record.main_set) else "over images: patients are not known"
    return f"{100 * record.main['intervals']['level']:g} %, {over}"


def last_part(path: str) -> str:
    """The name at the end of a path of any system."""
    return path.replace("\\", "/").rstrip("/").rpartition("/")[2]
