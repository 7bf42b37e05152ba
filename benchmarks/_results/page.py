"""The pages made from records: docs/results.md, and the table of the README."""

from __future__ import annotations

import functools
import re
from collections.abc import Mapping, Sequence

import numpy as np
from scipy.stats import spearmanr

from benchmarks._results.records import command_of
from benchmarks._results.rows import Published, Row, rule_of
from benchmarks._results.tables import (
    CLASS_NUMBERS,
    EXPERIMENTS,
    HEADS,
    NUMBERS,
    STAND_INS,
    minutes_text,
    published_name,
    row_table,
    seed_table,
    short_text,
    split_table,
    value_text,
    verdict_text,
)
from pneumolit.comparison.facts import Facts
from pneumolit.comparison.method import RUN, Method
from pneumolit.comparison.pairs import against_one, compare_pairs
from pneumolit.comparison.rows import RowGroup
from pneumolit.evaluation.mcnemar import FEW_GAINS
from pneumolit.evaluation.operating_point import PRIMARY

STUDIES = {
    "study_a": "Study A: seven models, PyTorch",
    "study_b": "Study B: four classes in a contest, Keras",
    "study_c": "Study C: three levels of capacity on a CPU, PyTorch",
    "study_d": "Study D: three classes and a hand sweep, Keras",
    "study_e": "Study E: ResNet50 in six versions, Keras",
}
_DRAWS = 2000  # of rows, for the interval of a rank correlation
_FEWEST_RANKED = 5  # rows whose order on block is held against that on test
_FEW_FILMS = 50  # of validation, on which a calibration is hardly more than a guess
_NEAR = 0.95  # share of the films of one recipe that another must have been scored on to be compared
_LEAKS = (
    "What patients on both sides are worth: split by image less split by whole patients. The interval of the\n"
    "difference joins both as if no film were on both test sides; about a fifth is. Rows with one seed leave out what\n"
    "another seed would change."
)
_NO_DATA = "not run: its images cannot be had"
FOUND = "# Here: "
START, END = "<!-- results: made by python -m benchmarks.results -->", "<!-- end of results -->"


def results_page(rows: Sequence[Row], published: Mapping[str, Published], intro: str, best: str) -> str:
    """docs/results.md.

    Args:
        rows: those with records.
        published: by recipe.
        intro: text above the tables; its links start from `docs/results`.
        best: recipe that every other row is tested against; "" where there is none yet.
    """
    by_name = {row.name: row for row in rows}
    parts = [f"# Results\n\n{intro.strip().replace('](../', '](')}\n"]
    own = [row for row in rows if not row.name.startswith("study_")]
    if own:
        parts.append(f"## Recipes of pneumolit\n\n{row_table(own, {}, NUMBERS)}\n\n{_commands(own)}\n")
        if any("test" in record.metrics["sets"] for row in own for record in row.records):
            parts.append(f"Test by seed, 95 % intervals over patients:\n\n{seed_table(own)}\n")
    for study, title in STUDIES.items():
        names = _recipes(study)
        numbers = CLASS_NUMBERS if study == "study_d" else NUMBERS
        shown = [by_name[name] for name in names if name in by_name]
        parts.append(f"## {title}\n\n{row_table(shown, published, numbers)}\n" if shown else f"## {title}\n")
        if split := split_table(shown):
            parts.append(f"{_LEAKS}\n\n{split}\n")
        parts.append(_not_run(names, by_name))
        if shown:
            parts.append(_commands(shown) + "\n")
    if best in by_name:
        parts.append(_against(by_name[best], [row for row in rows if row.name != best]))
    parts.append(_foretold(rows))
    parts.append(_looks(rows))
    return "\n".join(part for part in parts if part)


def readme_table(rows: Sequence[Row], published: Mapping[str, Published], most: Sequence[str]) -> str:
    """The README's short table: these rows, in this order, as far as they have records.

    Beside an accuracy of three classes numbers of two would mislead and are left out.
    """
    by_name = {row.name: row for row in rows}
    shown = [by_name[name] for name in most if name in by_name]
    lines = [
        "| recipe | published accuracy | ours | spec. | sens. | AUROC | verdict |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for row in shown:
        theirs = published.get(published_name(row.name))
        cells = [
            f"`{row.name}`",
            theirs.texts.get("accuracy", "") if theirs else "",
            value_text(row.estimates.get("accuracy")),
            *("" if "macro_recall" in row.estimates else value_text(row.estimates.get(key)) for key in NUMBERS[1:]),
            verdict_text(row, theirs, ("accuracy",)) if theirs else "",
        ]
        lines.append("| " + " | ".join(cells) + " |")
    able = [name for study in STUDIES for name in _recipes(study) if _can_run(name, _recipes(study))]
    missing = sum(name not in by_name for name in able)
    if missing:
        lines.append(f"\nOf the {len(able)} rows of the studies that can run here, {missing} have no number yet.")
    return "\n".join(lines)


def put_between(text: str, table: str) -> str:
    """A page with the table between its two marks.

    Raises:
        ValueError: the marks are missing.
    """
    pattern = re.compile(re.escape(START) + ".*?" + re.escape(END), re.DOTALL)
    if not pattern.search(text):
        raise ValueError(f"the page has no place for the table: it needs the lines {START} and {END}")
    return pattern.sub(lambda _: f"{START}\n{table}\n{END}", text)


def found_line(row: Row) -> str:
    """What a recipe's header says of its records."""
    parts = [f"{HEADS[key]} {value_text(row.estimates[key])}" for key in ("accuracy", "auroc") if key in row.estimates]
    seeds = f"{len(row.records)} seeds" if len(row.records) > 1 else f"seed {row.records[0].seed}"
    threads = row.records[0].metrics["threads"]
    cores = "one core" if threads == 1 else f"{threads} cores"
    return f"{FOUND}{', '.join(parts)} on test ({seeds}); {minutes_text(row)} min on {cores}."


def with_found(recipe: str, line: str) -> str:
    """A recipe's text with what was found behind the published numbers or else the command, once."""
    lines = [one for one in recipe.splitlines() if not one.startswith(FOUND)]
    heads = [
        place for place, one in enumerate(lines) if one.startswith(("# Published", "# python -m pneumolit.train "))
    ]
    lines.insert(heads[-1] + 1, line)
    return "\n".join(lines) + "\n"


def _recipes(study: str) -> list[str]:
    """Recipes of a study by name, one that is split by patients behind its own."""
    files = (EXPERIMENTS / study).rglob("[!_]*.yaml")
    found = [path.relative_to(EXPERIMENTS).with_suffix("").as_posix() for path in files]
    return sorted(found, key=lambda name: (name.rpartition("/")[2], name.count("/")))


def _can_run(name: str, names: Sequence[str]) -> bool:
    """Whether there is data, and weights or none needed."""
    return not name.startswith("study_b/") and all(name + ending not in names for ending in STAND_INS)


def _not_run(names: Sequence[str], by_name: Mapping[str, Row]) -> str:
    lines = []
    for name in names:
        if name in by_name:
            continue
        stand_in = next((name + ending for ending in STAND_INS if name + ending in names), "")
        if name.startswith("study_b/"):
            lines.append(f"- `{name}`: {_NO_DATA}. Any class folders: `{command_of(name, 0)} data.root=FOLDER`")
        elif stand_in:
            lines.append(
                f"- `{name}`: not run, for want of its ImageNet weights; `{stand_in.partition('/')[2]}` stands in."
            )
        else:
            lines.append(f"- `{name}`: no record yet.")
    return "\n".join(lines) + "\n" if lines else ""


def _commands(rows: Sequence[Row]) -> str:
    lines = [f"{record.metrics['command']}" for row in rows for record in row.records[:1]]
    return "```bash\n" + "\n".join(lines) + "\n```"


def _against(best: Row, others: Sequence[Row]) -> str:
    """Paired tests of one recipe against every other that judged the same films."""
    parts = [f"## `{best.name}` against every row\n"]
    for name, title in (("block", "Block validation"), ("test", "Test")):
        if name not in best.records[0].scored:
            continue
        own = best.records[0].scored[name]
        rows = [row for row in others if name in row.records[0].scored]
        # Study C's block lacks a film or two, for its validation is another; study D has another test.
        shared = {row.name: np.intersect1d(own.films, row.records[0].scored[name].films) for row in rows}
        near = [row for row in rows if len(shared[row.name]) >= _NEAR * len(own.films)]
        if not near:
            continue
        films = functools.reduce(np.intersect1d, [shared[row.name] for row in near])
        by_own_rules = RowGroup(tuple(_method(row, name, films, rule_of(row.name)) for row in (best, *near)))
        by_one_rule = RowGroup(tuple(_method(row, name, films, PRIMARY) for row in (best, *near)))
        pairs = [(other, one) for one, other in against_one(by_own_rules, 0)]
        names = [method.name for method in by_own_rules.methods]
        few = ", ".join(f"`{row.name}`" for row in near if row.records[0].metrics["sets"]["val"]["images"] < _FEW_FILMS)
        lines = [
            f"{title}, {len(films)} films, the lowest seed of each recipe; differences are {best.name} less the row.",
            "P by tests for clustered data: of accuracy McNemar's or, where fewer than",
            f"{FEW_GAINS} patients differ, flipped signs (mid-p, which stays below 1 where nothing differs), of AUROC",
            "Obuchowski's variance; none knows what another seed would change. Holm's correction for",
            f"{len(pairs)} rows within a column. Accuracy: every row by the rule of the tables above, then by one rule",
            "for all, the primary one, calibrated on each row's own validation"
            + (f",\nof fewer than {_FEW_FILMS} films in {few}.\n" if few else ".\n"),
            "| row | accuracy | p | Holm | accuracy by one rule | p | Holm | AUROC | p | Holm |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        ]
        compared = (compare_pairs(group, pairs, names) for group in (by_own_rules, by_one_rule))
        for pair, same_rule in zip(*compared, strict=True):
            cells = [f"`{pair.second}`"]
            for one in (pair, same_rule):
                cells += [f"{one.accuracy.value:+.3f}", _p(one.accuracy.p_value), _p(one.accuracy_holm)]
            auroc = pair.auroc
            cells += ["", "", ""] if auroc is None else [
                f"{auroc.value:+.4f}", _p(auroc.p_value), _p(pair.auroc_holm),
            ]  # fmt: skip
            lines.append("| " + " | ".join(cells) + " |")
        parts.append("\n".join(lines) + "\n")
        apart = [f"`{row.name}`" for row in others if row not in near]
        if apart:
            parts.append(f"Not compared here, for want of these films: {', '.join(apart)}.\n")
    return "\n".join(parts)


def _method(row: Row, name: str, films: np.ndarray, rule: str) -> Method:
    record = row.records[0]
    scored = record.scored[name].of(films)
    return Method(
        name=row.name,
        kind=RUN,
        source=row.name,
        paths=scored.films,
        patient_ids=scored.patient_ids,
        targets=scored.positives.astype(str),
        scores=scored.scores,
        decisions=scored.decided(rule).astype(str),
        metrics=record.metrics,
        rule=rule,
        facts=Facts(seed=record.seed),
    )


def _foretold(rows: Sequence[Row]) -> str:
    """Whether what validation says of a run foretells its test, by AUROC; study D has no block."""
    found = [(row.name, [record.metrics["sets"].get(name, {}).get("auroc") for name in ("val", "block", "test")])
             for row in rows for record in row.records]  # fmt: skip
    runs = [(name, [auroc[0] for auroc in three]) for name, three in found if all(three)]
    names = dict.fromkeys(name for name, _ in runs)
    means = {name: np.mean([three for other, three in runs if other == name], axis=0) for name in names}
    studies = [mean for name, mean in means.items() if name.startswith("study_")]
    if len(studies) < _FEWEST_RANKED:
        return ""
    above = sum(block > val for _, (val, block, _) in runs)
    below = sum(test < min(val, block) for _, (val, block, test) in runs)
    text = (
        f"## What validation foretells\n\nOf {len(runs)} runs with an AUROC on validation (of study C the 16 official "
        f"films), block and test the block's\nlies above validation's in {above}, and test lies below both in {below}. "
        f"Over the {len(studies)} rows of studies among them block\nand test have a rank correlation (Spearman) of "
        f"{_ranks_agree(studies)}"
    )
    if len(studies) < len(means):
        others = f"with {len(means) - len(studies)} of our own"
        text += f", {others},\nchosen on the block, of {_ranks_agree([*means.values()])}"
    return f"{text}; intervals: 95 %, rows drawn with replacement.\n"


def _ranks_agree(aurocs: Sequence[np.ndarray]) -> str:
    """Spearman's correlation of block and test, with its interval.

    Args:
        aurocs: of every row on validation, block and test.
    """
    _, blocks, tests = np.stack(aurocs).T
    value = spearmanr(blocks, tests).statistic
    draws = np.random.default_rng(0).integers(len(aurocs), size=(_DRAWS, len(aurocs)))
    # A draw of one row alone has no order.
    kept = [rows for rows in draws if len(set(blocks[rows])) > 1 and len(set(tests[rows])) > 1]
    low, high = np.quantile([spearmanr(blocks[rows], tests[rows]).statistic for rows in kept], (0.025, 0.975))
    return f"{value:.2f} [{low:.2f}, {high:.2f}]"


def _looks(rows: Sequence[Row]) -> str:
    sets: dict[str, int] = {}
    for row in rows:
        for record in row.records:
            for look in record.metrics["looks"]:
                sets[look["test_set"]] = sets.get(look["test_set"], 0) + 1
    if not sets:
        return ""
    listed = ", ".join(f"{count} at set `{name[:8]}`" for name, count in sorted(sets.items(), key=lambda one: -one[1]))
    return f"## Looks\n\n{sum(sets.values())} sets of predictions of test splits stand behind these tables: {listed}.\n"


def _p(value: float | None) -> str:
    if value is None or not np.isfinite(value):
        return ""
    return "<.001" if value < 0.001 else short_text(value)
