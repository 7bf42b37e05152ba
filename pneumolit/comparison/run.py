"""From run folders and files of predictions to tables, a page and, if asked, an ensemble."""

from __future__ import annotations

import shlex
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from pneumolit.comparison.ensemble import GREEDY
from pneumolit.comparison.facts import read_contents
from pneumolit.comparison.foreign import foreign_method, read_scores
from pneumolit.comparison.method import ENSEMBLE, FILE, RUN, Absent, Method, read_method
from pneumolit.comparison.naming import name_methods
from pneumolit.comparison.pairs import against_one, all_pairs, compare_pairs
from pneumolit.comparison.rows import RowGroup, group_methods, why_apart
from pneumolit.comparison.table import choose_reference, in_order, method_row
from pneumolit.report.comparison import AbsentRow, MethodRow, PairRow
from pneumolit.report.comparison_page import Comparison
from pneumolit.report.comparison_tables import differing
from pneumolit.report.evaluation import PATIENTS_UNKNOWN, TITLES
from pneumolit.report.tables import Table, rule_label, with_interval
from pneumolit.rundir import RunDir

REFERENCE, ALL = "reference", "all"
_PRIMARY = "calibrated probability of pneumonia, re-based to prevalence one half, at least .5"
_MOST_COMMANDS = 4  # lines to copy; the tables name every run


@dataclass(frozen=True)
class Settings:
    """What is asked of a comparison.

    Attributes:
        name: of its folder.
        split: name of the evaluated set.
        rule: decision rule.
        reference: name or folder of the method that the others are tested against; None: the best on validation.
        pairs: `REFERENCE` or `ALL`.
        num_resamples: of patients.
        seed: of the draws.
    """

    name: str
    split: str = "test"
    rule: str = "primary"
    reference: str | None = None
    pairs: str = REFERENCE
    num_resamples: int = 2000
    seed: int = 0


@dataclass(frozen=True)
class Result:
    """A comparison, with the methods that its pictures are drawn from.

    Attributes:
        page: what it says.
        group: the methods that were tested against each other, in the order of the leaderboard.
    """

    page: Comparison
    group: RowGroup

    def with_part(self, part: tuple[str, Sequence[str], Sequence[Table]] | None) -> Result:
        """The same with a further part: heading, paragraphs, tables."""
        return self if part is None else replace(self, page=replace(self.page, extras=[*self.page.extras, part]))


def collect_methods(
    runs: Sequence[RunDir], files: Sequence[Path], settings: Settings
) -> tuple[list[Method], list[Absent]]:
    """Read what every run and every file says of the set; what says nothing is named with its reason.

    Raises:
        ValueError: a file of predictions cannot be read, or nothing at all can be compared.
    """
    found = [read_method(run, settings.split, settings.rule) for run in runs]
    methods = [one for one in found if isinstance(one, Method)]
    absent = [one for one in found if isinstance(one, Absent)]
    for file in files:
        for scores in read_scores(file):
            one = foreign_method(scores, methods, num_resamples=settings.num_resamples, seed=settings.seed)
            if isinstance(one, Absent):
                absent.append(one)
            else:
                methods.append(one)
    if not methods:
        listed = "\n".join(f"  {a.source}: {a.reason}" + (f"; {a.command}" if a.command else "") for a in absent[:20])
        raise ValueError(f"nothing can be compared on split={settings.split}:\n{listed}")
    return name_methods(methods), absent


def compare(methods: Sequence[Method], absent: Sequence[Absent], settings: Settings) -> Result:
    """Test the methods with the same images against each other and put all into rows.

    Raises:
        ValueError: the reference is none of the methods.
    """
    groups = group_methods(methods)
    if settings.reference is None:
        # Runs of different folds share no images: then the ensemble of them all stands for them.
        largest = [group for group in groups if len(group.methods) == len(groups[0].methods)]
        main = next((g for g in largest if any(m.kind == ENSEMBLE for m in g.methods)), groups[0])
        reference, how = choose_reference(main.methods, None, settings.split)
    else:
        reference, how = choose_reference(methods, settings.reference, settings.split)
        main = next(group for group in groups if reference.name in {m.name for m in group.methods})
    main = in_order(main)
    place = main.place(reference.name)
    rows = [method_row(m, i + 1, is_reference=i == place) for i, m in enumerate(main.methods)]
    apart = [
        method_row(method, 0, reason=why_apart(group, main))
        for group in groups
        if group.methods[0].name not in {m.name for m in main.methods}
        for method in in_order(group).methods
    ]
    apart = [replace(row, number=len(rows) + i + 1) for i, row in enumerate(apart)]
    wanted = all_pairs(main) if settings.pairs == ALL else against_one(main, place)
    titles = [row.title for row in rows]
    pairs = compare_pairs(main, wanted, titles, num_resamples=settings.num_resamples, seed=settings.seed)
    missing = [AbsentRow(one.name, one.source, one.reason, one.command) for one in absent]
    page = Comparison(
        title=f"Comparison {settings.name}",
        split=TITLES.get(settings.split, settings.split),
        summary=_summary(main, rows, pairs, len(apart), len(missing), how, settings),
        methods=rows,
        pairs=pairs,
        apart=apart,
        absent=missing,
        notes=_notes(main, rows, settings),
        reference="" if settings.pairs == ALL else rows[place].title,
        commands=_commands(rows, missing),
        has_patients=main.has_patients,
    )
    return Result(page, main)


def _summary(
    group: RowGroup, rows: Sequence[MethodRow], pairs: Sequence[PairRow], apart: int, absent: int, how: str,
    settings: Settings,
) -> list[tuple[str, str]]:  # fmt: skip
    """The box at the top: what was compared, on what, against what, with what result."""
    reference = next(row for row in rows if row.is_reference)
    kinds = Counter(row.kind for row in rows)
    words = {RUN: ("run", "runs"), FILE: ("file of predictions", "files of predictions"),
             ENSEMBLE: ("ensemble", "ensembles")}  # fmt: skip
    counted = [f"{kinds[kind]} {word[kinds[kind] > 1]}" for kind, word in words.items() if kinds[kind]]
    more = [f"{apart} on other images"] * bool(apart) + [f"{absent} not compared"] * bool(absent)
    share = f", {100 * group.positives.mean():.0f} % with pneumonia" if group.has_scores else ""
    of_patients = f" of {rows[0].num_patients} patients" if group.has_patients else ""
    told = [
        ("images", f"{TITLES.get(settings.split, settings.split)} ({settings.split}): {rows[0].num_images} images"
                   f"{of_patients}{share}"),
        ("methods", ", ".join(counted) + (f"; besides {' and '.join(more)}" if more else "")),
        ("reference", f"{reference.title}: {how}"),
        ("its numbers", _headline(reference)),
    ]  # fmt: skip
    return [*told, ("differences", differing(pairs))] if pairs else told


def _headline(row: MethodRow) -> str:
    names = (
        ("auroc", "AUROC"),
        ("accuracy", "accuracy"),
        ("sensitivity", "sensitivity"),
        ("specificity", "specificity"),
    )
    return ", ".join(
        f"{word} {with_interval(row.numbers[name], row.intervals.get(name))}"
        for name, word in names
        if name in row.numbers
    )


def _notes(group: RowGroup, rows: Sequence[MethodRow], settings: Settings) -> list[str]:
    by = "AUROC" if group.has_scores else "accuracy"
    notes = [
        f"In the order of {by} on these images; a tap on a heading sorts. Whoever picks the first line picks by this "
        "set, and its number is then too good: choose by validation (last column), and read here what it is worth."
    ]
    rules = sorted({row.rule for row in rows})
    named = "; ".join(f"{rule_label(rule)}: {_PRIMARY}" if rule == "primary" else rule_label(rule) for rule in rules)
    notes.append(
        f"Decisions by the rule {named}. Numbers in brackets are 95 % intervals over "
        f"{'patients' if group.has_patients else 'images'}."
    )
    notes += [PATIENTS_UNKNOWN] * (not group.has_patients)
    chosen = [m.facts.chosen_by for m in group.methods if m.facts.chosen_by.startswith(f"{settings.split}/")]
    if chosen:
        notes.append(
            f"The epoch of {len(chosen)} of {len(group.methods)} methods was chosen by these very images "
            f"({', '.join(sorted(set(chosen)))}), so that their numbers are too good here."
        )
    is_chosen = settings.reference is None and len(rows) > 1
    if settings.split == "val" and is_chosen and any(row.facts.get("val_auroc") for row in rows):
        notes.append("These are the images that the reference was chosen by, so that it looks better here than it is.")
    greedy = [r.title for r in rows if r.kind == ENSEMBLE and str(r.facts.get("model", "")).startswith(GREEDY)]
    if settings.split == "val" and greedy:
        notes.append(
            f"The members and weights of {', '.join(greedy)} were chosen by these very images, so that all its numbers "
            "and differences are too good here; another set tells what it is worth."
        )
    contents = {read_contents(m.run, settings.split) for m in group.methods if m.run is not None} - {""}
    if len(contents) > 1:
        notes.append(
            "The methods have read files of other contents under the same names. Are these the same films, resized or "
            "encoded anew, the comparison holds; are they others, it means nothing."
        )
    looks = [row.look for row in rows if row.look]
    if looks:
        notes.append(
            f"{len(looks)} of these methods had a look at the test split each when they were scored; this comparison "
            "reads what they wrote and is none."
        )
    machines = {row.facts["machine"] for row in rows if row.facts.get("machine")}
    if len(machines) > 1:
        notes.append(f"Training times are from different machines ({', '.join(sorted(machines))}).")
    return notes + [group.note] * bool(group.note)


def _commands(rows: Sequence[MethodRow], absent: Sequence[AbsentRow]) -> list[tuple[str, str]]:
    """What would fill the gaps of the table."""
    scored = [row.command for row in absent if row.command]
    measured = [
        f"python -m pneumolit.evaluate run_dir={shlex.quote(row.source)} split=train"
        for row in rows
        if row.kind == RUN and "train_accuracy" not in row.facts
    ]
    wanted = (
        ("give what was not compared its predictions", scored),
        ("measure accuracy and loss on the training images as they are", measured),
    )
    told = []
    for what, lines in wanted:
        if lines:
            more = [f"# and {len(lines) - _MOST_COMMANDS} more"] * (len(lines) > _MOST_COMMANDS)
            told.append((what, "\n".join([*lines[:_MOST_COMMANDS], *more])))
    return told
