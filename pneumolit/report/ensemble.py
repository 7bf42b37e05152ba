"""report.html of an ensemble: its members with their weights, and what it says of every set."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from pneumolit.report.html import Section, run_page
from pneumolit.report.language import ENGLISH
from pneumolit.report.run_record import RunRecord, evaluated_sets, set_title
from pneumolit.report.run_sections import set_sections
from pneumolit.report.run_tables import interval_text, scored_text, sets_table
from pneumolit.report.tables import Table, headline_rule, rule_label, with_interval
from pneumolit.rundir import RunDir, read_json, write_text

_NUMBERS = ("accuracy", "balanced_accuracy", "sensitivity", "specificity")
_HEAT = "Worst errors"  # a section that offers heat maps, which are a single model's


def write_ensemble_page(run: RunDir, language: str | None = None) -> None:
    """Write report.html of an ensemble; nothing where no set was evaluated.

    Args:
        run: folder of the ensemble.
        language: of the page; None is English.
    """
    record = _record(run)
    if not record.evaluations:
        return
    content, said = read_json(run.ensemble_file), language or ENGLISH
    main, *others = record.evaluations
    sections = [
        _members(content),
        Section("All evaluated sets", [] if content["validation"] == "own" else [_WORDS], [sets_table(record)]),
        *_sections(record, main),
        *(Section(set_title(name), parts=_sections(record, name), is_folded=True) for name in others),
    ]
    page = run_page(
        title=f"pneumolit ensemble {run.path.name}", summary=_summary(record, content), sections=sections,
        config_text=run.config_file.read_text(encoding="utf-8"), language=said, has_contents=True,
    )  # fmt: skip
    write_text(run.page_file, page)


_WORDS = "Numbers of validation flatter: it calibrated the ensemble, and a greedy one was chosen by it."


def _record(run: RunDir) -> RunRecord:
    """What sections about one set need to know of a folder."""
    evaluations = {name: read_json(run.evaluation_metrics_file(name)) for name in evaluated_sets(run)}
    return RunRecord(
        run=run, config={}, data=read_json(run.data_file), environment={}, status=read_json(run.status_file),
        calibration=read_json(run.calibration_file), freeze_plan={},
        evaluations=evaluations,
        has_patients=all(metrics.get("has_patients", True) for metrics in evaluations.values()),
    )  # fmt: skip


def _sections(record: RunRecord, name: str) -> list[Section]:
    return [replace(s, parts=()) if s.heading == _HEAT else s for s in set_sections(record, name)]


def _members(content: dict[str, Any]) -> Section:
    members = sorted(content["members"], key=lambda member: -member["weight"])
    rows = tuple((m["name"], m["run_dir"], f"{m['weight']:.3f}") for m in members)
    words = [f"The score is the {content['combines']}."]
    selection = content.get("selection")
    if selection:
        words.append(f"Members and weights were chosen by {selection['chosen_by']}.")
        left_out = selection["not_chosen"]
        words += [f"Not chosen: {', '.join(left_out)}."] * bool(left_out)
    return Section("Members", words, [Table(("member", "folder, from here", "weight"), rows, num_labels=2)])


def _summary(record: RunRecord, content: dict[str, Any]) -> list[tuple[str, str]]:
    metrics, intervals = record.main, record.main["intervals"]
    rule = headline_rule(metrics)
    found, ranges = metrics["rules"][rule], intervals["rules"][rule]
    box = [
        ("Model", f"{content['ensemble']} of {len(content['members'])} runs"),
        ("Scored on", scored_text(record, record.main_set)),
        ("AUROC", with_interval(metrics["ranking"]["auroc"], intervals["ranking"]["auroc"])),
        *((key.replace("_", " ").capitalize(), with_interval(found[key], ranges.get(key))) for key in _NUMBERS),
        ("Decision rule", f"{rule_label(rule)}: {found['rule']}"),
        ("Intervals", interval_text(record)),
    ]  # fmt: skip
    look = metrics["context"].get("look")
    return [*box, ("Test look", look)] if look else box
