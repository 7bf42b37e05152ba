"""What the command `predict` does: from its settings to a table, pictures, a record and a summary."""

from __future__ import annotations

import contextlib
import itertools
import platform
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import pneumolit
from pneumolit.evaluation.operating_point import PRIMARY
from pneumolit.interrupts import INTERRUPTED, RunInterruptedError
from pneumolit.prediction.decision import make_rule
from pneumolit.prediction.inputs import STDIN, Inputs
from pneumolit.prediction.opening import open_scorer, with_reference
from pneumolit.prediction.pictures import clear_folder, draw_picture, open_folder
from pneumolit.prediction.predictor import Predictor, check_heat, describe_rule
from pneumolit.prediction.scorer import device_words
from pneumolit.prediction.summary import rows_in_words, summary_lines, summary_table
from pneumolit.prediction.table import TableWriter, as_row, is_table
from pneumolit.rundir import fingerprint, printable, read_json, shortest, utc_now, write_json

_ROWS_SHOWN = 12  # predictions that a person can read on the console


@dataclass
class Tally:
    """Counts of one call.

    Attributes:
        decisions: decision -> rows; "" are files that could not be read.
        warnings: word -> rows.
        reasons: why files could not be read -> rows.
        num_warned: rows with any warning.
        num_kept: rows of an earlier call that was cut off.
        shown: the first predictions.
    """

    decisions: Counter[str] = field(default_factory=Counter)
    warnings: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)
    num_warned: int = 0
    num_kept: int = 0
    shown: list[dict[str, Any]] = field(default_factory=list)

    @property
    def num_rows(self) -> int:
        """All of them."""
        return sum(self.decisions.values())

    @property
    def num_broken(self) -> int:
        """Rows of files that could not be read."""
        return self.decisions[""]

    def add(self, row: Mapping[str, Any]) -> None:
        """Count a row as it stands in the table."""
        words = [word for word in str(row.get("warnings") or "").split(";") if word]
        self.decisions[str(row.get("decision") or "")] += 1
        self.warnings.update(words)
        self.num_warned += bool(words)
        if row.get("reason"):
            self.reasons[str(row["reason"])] += 1
        if len(self.shown) <= _ROWS_SHOWN:
            self.shown.append(dict(row))


def predict_files(
    cfg: Mapping[str, Any], target: Path | None, console: Console
) -> tuple[Tally, Predictor, Path | None]:
    """Score what `input` names and write the table; gives the folder of pictures too.

    Args:
        cfg: of the command, checked.
        target: file of the table; None is standard output.
        console: for people.

    Raises:
        FileNotFoundError, ValueError: the input, the model or a setting cannot be used, or a file cannot be read and
            `on_error` is `stop`.
    """
    inputs = Inputs(cfg["input"])
    predictor = build_predictor(cfg, console)
    names = [scorer.name for scorer in predictor.scorers]
    if len(set(names)) < len(names):
        raise ValueError(
            f"run_dir names {len(names)} runs called {names}; copies cannot be told apart in one table; rename a folder"
        )
    kind = ".jsonl" if cfg["format"] == "jsonl" or (target is not None and target.suffix == ".jsonl") else ".csv"
    if target is not None and target.exists() and not is_table(target):
        raise ValueError(f"{target} is there and is no table of predictions; give another output, or remove it")
    heat_folder = open_folder(cfg, target)
    replaced = "" if target is None else _earlier_table(target, cfg)
    writer = TableWriter(
        target,
        predictor.classes,
        identity=fingerprint(_identity(cfg, predictor)),
        with_run=len(names) > 1,
        rows_per_file=len(names),
        with_heat=heat_folder is not None,
        kind=kind,
    )
    tally = Tally()
    started = time.perf_counter()
    try:
        _fill(writer, inputs, predictor, cfg["on_error"], heat_folder, tally, console)
    except KeyboardInterrupt as stop:
        how = "" if target is None else "; the same command goes on from there"
        code = getattr(stop, "exit_code", INTERRUPTED)
        raise RunInterruptedError(f"stopped after {rows_in_words(tally.num_rows)}{how}", code) from None
    finally:
        writer.close()
    if inputs.num_aside:
        which = "file in folders is no image by its name"
        if inputs.num_aside > 1:
            which = "files in folders are no images by their names"
        _say(console, f"{inputs.num_aside} {which}, left aside")
    if not tally.num_rows:
        raise ValueError(f"input={' '.join(cfg['input'])} holds no image file; JPEG, PNG and DICOM files are expected")
    if replaced:
        _say(console, replaced)
    if target is not None:
        _write_record(target, cfg, predictor, tally, seconds=time.perf_counter() - started)
    return tally, predictor, heat_folder


def _earlier_table(target: Path, cfg: Mapping[str, Any]) -> str:
    """What to say where a table of something else stands at this place."""
    try:
        told = read_json(record_file(target))
        asked = {"input": list(cfg["input"]), "run_dir": [str(place) for place in cfg["run_dir"]]}
        found = {"input": told["input"], "run_dir": [run["run_dir"] for run in told["runs"]]}
        if not target.is_file() or found == asked:
            return ""
        words = "; ".join(f"{key}={','.join(map(str, found[key]))}" for key in asked if found[key] != asked[key])
        return f"replaced the table of {words} ({told['time']}); output=FILE keeps both"
    except (OSError, ValueError, KeyError, TypeError):  # no record, or one of somebody else
        return ""


def build_predictor(cfg: Mapping[str, Any], console: Console) -> Predictor:
    """Open what `run_dir` names, decide as asked, and look at training films where nobody has yet."""
    scorers = []
    for place in cfg["run_dir"]:
        scorer = open_scorer(place)
        if scorer.reader_note:
            _say(console, scorer.reader_note)
        if cfg["checks"]:
            scorer, why = with_reference(scorer, Path(place).expanduser(), cfg, console)
            if why:
                _say(console, f"only what files say is checked, not whether films are like those of training: {why}")
        scorers.append(scorer)
    if cfg["heatmaps"]:
        for scorer in scorers:
            check_heat(scorer)
    for key, usual in (("mode", PRIMARY), ("prevalence", None), ("abstain", None)):
        without = [one.name for one in scorers if not one.labels.is_two_class_view]
        if without and cfg[key] != usual:
            raise ValueError(
                f"{key}={cfg[key]} has no effect because no class of {without[0]} means pneumonia and the likeliest "
                "one is told; leave it out"
            )
    rules = [
        make_rule(
            one.points,
            mode=cfg["mode"],
            prevalence=cfg["prevalence"],
            abstain=cfg["abstain"],
            validation=one.validation,
        )
        for one in scorers
    ]
    return Predictor(scorers, rules, tta=cfg["tta"], with_checks=cfg["checks"], with_heat=bool(cfg["heatmaps"]))


def _fill(
    writer: TableWriter,
    inputs: Inputs,
    predictor: Predictor,
    on_error: str,
    heat_folder: Path | None,
    tally: Tally,
    console: Console,
) -> None:
    paths = iter(inputs)
    per_file = len(predictor.scorers)
    rest = _after_kept(writer, paths, per_file, tally)
    first = tally.num_kept // per_file
    if heat_folder is not None and not first:
        clear_folder(heat_folder)
    predictions = predictor.stream(rest, on_error=on_error)
    with _bar(console, inputs, first) as advance:
        # By whole films: a table that is cut off between the rows of one would be gone on with out of step.
        for number in itertools.count(first):
            group = list(itertools.islice(predictions, per_file))
            if not group:
                break
            rows = [as_row(one, heatmap=draw_picture(one, heat_folder, number)) for one in group]
            writer.write(rows)
            for row in rows:
                tally.add(row)
            advance(1)
    if not tally.num_rows:
        writer.discard()
        raise ValueError(f"input={' '.join(inputs.texts)} holds no image file; JPEG, PNG and DICOM files are expected")
    writer.finish()


def _after_kept(writer: TableWriter, paths: Iterator[str], per_file: int, tally: Tally) -> Iterator[str]:
    """The paths that have no rows yet.

    Raises:
        ValueError: the files are not those of the table that was begun.
    """
    pending = 0
    for row in writer.begin():
        if pending % per_file == 0:
            path = next(paths, None)
            if path != row["path"]:
                raise ValueError(
                    f"{writer.partial_file} was begun with other files (it has {row['path']!r} where now {path!r} "
                    "stands); remove it to begin anew, or name the same input"
                )
        pending += 1
        tally.add(row)
        tally.num_kept += 1
    assert pending % per_file == 0
    return paths


def _identity(cfg: Mapping[str, Any], predictor: Predictor) -> list[str]:
    """Of everything that a row depends on, the file aside."""
    rules = [repr(describe_rule(rule)) for rule in predictor.rules]
    references = ["" if s.reference is None else repr(sorted(s.reference.limits.items())) for s in predictor.scorers]
    own = [f"{cfg[key]}" for key in ("tta", "checks", "heatmaps")]
    return [*(scorer.identity for scorer in predictor.scorers), *rules, *references, *own]


def _write_record(target: Path, cfg: Mapping[str, Any], predictor: Predictor, tally: Tally, *, seconds: float) -> None:
    """How the table was made, beside it."""
    runs = []
    for place, scorer, rule in zip(cfg["run_dir"], predictor.scorers, predictor.rules, strict=True):
        rates = None if scorer.reference is None else dict(scorer.reference.rates)
        runs.append(
            {
                "run_dir": str(place),
                "name": scorer.name,
                "identity": scorer.identity,
                **(describe_rule(rule) if scorer.labels.is_two_class_view else {"rule": "likeliest class"}),
                "facts": dict(scorer.facts),
                "out_of_range": rates,
            }
        )
    content = {
        "time": utc_now(),
        "notice": "Research software, not a medical device.",
        "table": target.name,
        "runs": runs,
        "input": list(cfg["input"]),
        "tta": cfg["tta"],
        "num_rows": tally.num_rows,
        "num_rows_kept": tally.num_kept,
        "decisions": {(word or "could not be read"): count for word, count in sorted(tally.decisions.items())},
        "warnings": dict(sorted(tally.warnings.items())),
        "seconds": round(seconds, 2),
        "device": device_words(predictor.scorers),
        "versions": {
            "pneumolit": pneumolit.__version__,
            "torch": str(torch.__version__),
            "python": platform.python_version(),
        },
    }
    write_json(record_file(target), content)


def record_file(target: Path) -> Path:
    """How a table was made."""
    return target.with_name(f"{target.name}.about.json")


@contextlib.contextmanager
def _bar(console: Console, inputs: Inputs, done: int) -> Iterator[Any]:
    """A bar that goes when the work is done; without an end where a list comes from standard input."""
    if not console.is_terminal:
        yield lambda count: None
        return
    total = None if STDIN in inputs.texts else sum(1 for _ in Inputs(inputs.texts))
    columns = (TextColumn("films"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("films", total=total, completed=done)
        yield lambda count: progress.advance(task, count)


def _say(console: Console, text: str) -> None:
    console.print(f"  {printable(text)}", highlight=False, markup=False, soft_wrap=True)


def print_summary(
    console: Console, tally: Tally, predictor: Predictor, target: Path | None, heat_folder: Path | None = None
) -> None:
    """What came out, in some lines."""
    if tally.num_rows <= _ROWS_SHOWN and target is not None:
        console.print(summary_table(tally.shown, with_run=len(predictor.scorers) > 1))
    for line in summary_lines(tally, predictor):
        _say(console, line)
    if target is not None:
        _say(console, f"table   {shortest(target)}")
        _say(console, f"record  {shortest(record_file(target))}")
    if heat_folder is not None:
        _say(console, f"heat    {shortest(heat_folder)}")


def standard_output_console() -> Console:
    """For people while the table goes to standard output."""
    return Console(stderr=True, soft_wrap=False)


def as_texts(value: Any, key: str) -> Sequence[str]:
    """One text or several; a file may be called `[a]`.

    Raises:
        ValueError: neither.
    """
    values = list(value) if isinstance(value, list | tuple) else [value]
    if not values or any(v is None or isinstance(v, bool | dict | list) or str(v) == "" for v in values):
        raise ValueError(f"{key} is missing or empty; give {key}=PATH")
    return [str(v) for v in values]
