"""report.html of a run with its model card and the page "may I use this here?", made from the run folder alone."""

from __future__ import annotations

from pneumolit.report.card import card_markdown, card_page
from pneumolit.report.curves import draw_training_curves
from pneumolit.report.html import Section, run_page
from pneumolit.report.may_i_use import SHORT_ANSWER, may_i_use_page
from pneumolit.report.may_i_use import TITLE as USE_TITLE
from pneumolit.report.run_record import RunRecord, set_title
from pneumolit.report.run_sections import set_sections
from pneumolit.report.run_tables import (
    MOST_LOOKS,
    environment_table,
    epochs_sentence,
    freeze_table,
    groups_table,
    interval_text,
    last_part,
    looks_table,
    scored_text,
    sets_table,
    sides_table,
    weights_text,
)
from pneumolit.report.sweep_tables import duration
from pneumolit.report.tables import headline_rule, rule_label, with_interval
from pneumolit.rundir import RunDir, write_text

_HEADLINE = ("sensitivity", "specificity", "accuracy", "balanced_accuracy")


def write_page(run: RunDir, language: str | None = None) -> None:
    """Draw the training curves and write report.html, model_card.html, model_card.md and may_i_use.html.

    Nothing is written for a run that was cut off before anything was scored.

    Args:
        run: its record and at least one evaluation.
        language: of the pages; None takes the run's own `report.language`.
    """
    record = RunRecord.read(run)
    if not record.evaluations:
        return
    said = language or record.language
    # report.html last: a run that has it is whole.
    write_text(run.model_card_file, card_markdown(record, said))
    write_text(run.model_card_page_file, card_page(record, said))
    write_text(run.may_i_use_file, may_i_use_page(record, said))
    if record.epochs:
        draw_training_curves(record.epochs, run.training_curves_file)
    write_text(run.page_file, report_page(record, said))


def report_page(record: RunRecord, language: str) -> str:
    """The run at a glance.

    Args:
        record: at least one set was evaluated, and its pictures are drawn.
        language: of the page.
    """
    main, *others = record.evaluations
    sections = [
        _use_section(record),
        Section("All evaluated sets", [_sets_words(record)], [sets_table(record)]),
        *set_sections(record, main),
        *(Section(set_title(name), parts=set_sections(record, name), is_folded=True) for name in others),
        *_training_sections(record),
        Section("Environment", tables=[environment_table(record)], is_folded=True),
        _looks_section(record),
    ]
    return run_page(
        title=f"pneumolit run {record.run.path.name}",
        summary=summary_box(record),
        sections=sections,
        config_text=record.run.config_file.read_text(encoding="utf-8"),
        language=language,
        has_contents=True,
    )


def summary_box(record: RunRecord) -> list[tuple[str, str]]:
    """What, from which data, with which result by which rule on which images, at which look."""
    metrics, name = record.main, record.main_set
    intervals = metrics["intervals"]
    box = [("Model", f"{weights_text(record)}, {record.num_parameters:,} parameters"), ("Data", _data_text(record))]
    box.append(("Scored on", scored_text(record, name)))
    if "rules" in metrics:
        rule = headline_rule(metrics)
        found, ranges = metrics["rules"][rule], intervals["rules"][rule]
        box.append(("AUROC", with_interval(metrics["ranking"]["auroc"], intervals["ranking"]["auroc"])))
        box += [(_label(key), with_interval(found[key], ranges.get(key))) for key in _HEADLINE]
        box.append(("Decision rule", _rule_text(rule)))
    else:
        value = metrics["class_view"]["accuracy"]
        box.append(("Accuracy over all classes", with_interval(value, intervals["class_view"]["accuracy"])))
        box.append(("Decision rule", "the class with the largest logit"))
    box.append(("Intervals", interval_text(record)))
    if "look" in metrics["context"]:
        box.append(("Test look", metrics["context"]["look"]))
    box.append(("State", _state_text(record)))
    return box


def _use_section(record: RunRecord) -> Section:
    """In short, with links to the pages beside this one."""
    links = [
        ("What it has seen, what a result would mean, where it fails", record.run.may_i_use_file.name),
        ("Model card by CLAIM and TRIPOD+AI", record.run.model_card_page_file.name),
    ]
    return Section(USE_TITLE, [SHORT_ANSWER], links=links, tone="warning")


def _sets_words(record: RunRecord) -> str:
    """What chose what, which says whose numbers flatter."""
    metric, has_rules = record.choosing_metric, bool(record.calibration.get("calibration"))
    if "test" not in record.evaluations:
        start = "The test split was not scored." if record.has_test else "There is no test side."
        if has_rules:
            rules = f"{start} Validation chose thresholds and calibration, so its numbers flatter."
            return rules if metric is None else f"{rules} {metric} chose the epoch, so its images flatter as well."
        return start if metric is None else f"{start} {metric} chose the epoch."
    if metric is None and has_rules:
        return "Thresholds and calibration were chosen on validation; the test split took part in no choice."
    if metric is None:
        return "The test split took part in no choice."
    if has_rules:
        return (
            f"The epoch was chosen by {metric}, thresholds and calibration on validation; the test split took part in "
            "no choice."
        )
    return f"The epoch was chosen by {metric}; the test split took part in no choice."


def _training_sections(record: RunRecord) -> list[Section]:
    curves = record.run.training_curves_file
    pictures = [(curves, "loss, ranking and learning rate by epoch")] if record.epochs else []
    note = _CURVES if record.epochs else ""
    found = [Section("Training", [epochs_sentence(record)] if record.epochs else [], images=pictures, note=note)]
    plan = [freeze_table(record)]
    parts = [Section("Groups of the last stage, front to back", tables=[groups_table(record)])]
    if not record.freeze_plan["stages"][-1].get("groups"):
        parts = []
    found.append(Section("What was trained", tables=plan, parts=parts))
    if record.sides:
        found.append(Section("Sides of the split", tables=[sides_table(record)]))
    return found


_CURVES = (
    "train: training images; val: validation; stress: distorted copies of validation images; block: held-out patient "
    "numbers. Accuracy is by the largest logit."
)


def _looks_section(record: RunRecord) -> Section:
    words = (
        "A look is a set of predictions made on the test split. The more looks there are, the less its numbers say "
        "about new images."
    )
    if not record.has_test:
        return Section("Looks at the test split", ["There is no test side."])
    if not record.looks:
        return Section("Looks at the test split", [words, "This test set has not been looked at."])
    more = [f"Of {len(record.looks)} looks the latest {MOST_LOOKS} are shown, and those of this run."]
    shown = more if len(record.looks) > MOST_LOOKS else []
    return Section("Looks at the test split", [words, *shown], [looks_table(record)])


def _data_text(record: RunRecord) -> str:
    data = record.config["data"]
    root = last_part(str(data["manifest"] or data["root"] or "phantoms"))
    train = record.sides.get("train")
    count = f", {train.num_images:,} training images" if train else ""
    patients = f" of {len(train.patients):,} patients" if train and record.has_patients else ""
    return f"{data['source']} ({root}){count}{patients}"


def _rule_text(rule: str) -> str:
    if rule == "primary":
        return "primary: calibrated probability at prevalence one half at least 0.5, fixed beforehand"
    return f"{rule_label(rule)}: uncalibrated probability at least 0.5"


def _state_text(record: RunRecord) -> str:
    state, seconds = record.status["state"], record.status.get("seconds")
    return f"{state} after {duration(seconds)}" if seconds is not None else str(state)


def _label(key: str) -> str:
    return key.replace("_", " ").capitalize()
