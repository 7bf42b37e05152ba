"""The run folder: every file name in it, read and written here only."""

from __future__ import annotations

import contextlib
import csv
import hashlib
import io
import json
import os
import re
import shutil
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from io import TextIOWrapper
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from filelock import FileLock, Timeout

if TYPE_CHECKING:  # NumPy, which not every command needs
    from pneumolit.predictions import Predictions

_SPLIT_COLUMNS = ("label", "patient_id", "cause", "series", "is_copy")  # beside path and split
LEDGER_NAME = "test_looks.jsonl"
_MOST_YAML = 1_000_000  # bytes
RUNNING, DONE, FAILED, INTERRUPTED, PRUNED = "running", "done", "failed", "interrupted", "pruned"
_LOOK = ("run", "configuration", "test_set", "purpose")
WAITING = "waiting"  # of a job that has not begun


class EvaluationDir:
    """Paths of one evaluated set: of a run, or of a file of predictions that another program made.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def predictions_file(self) -> Path:
        """One row per image."""
        return self.path / "predictions.csv"

    @property
    def metrics_file(self) -> Path:
        """Every number."""
        return self.path / "metrics.json"

    @property
    def report_file(self) -> Path:
        """The numbers in words and tables."""
        return self.path / "report.md"

    @property
    def errors_file(self) -> Path:
        """The films that fare worst, with heat maps; not there where only numbers were drawn again."""
        return self.path / "errors.png"


class ExplanationDir:
    """Paths of the heat maps of one evaluated set, and of what checks say about them.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @property
    def checks_file(self) -> Path:
        """What the checks found, in numbers and in words."""
        return self.path / "checks.json"

    @property
    def films_file(self) -> Path:
        """One row per image that is shown."""
        return self.path / "films.csv"

    @property
    def report_file(self) -> Path:
        """The checks in words and tables."""
        return self.path / "report.md"

    @property
    def page_file(self) -> Path:
        """The same with pictures, one file."""
        return self.path / "explanation.html"

    def picture_file(self, name: str) -> Path:
        """A picture of the report: a sheet of films or what a check found."""
        return self.path / f"{name}.png"


class RunDir:
    """Paths and files of one run; writing is whole or not at all.

    Args:
        path: the folder; it need not exist before something is written.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @classmethod
    def open(cls, path: Path | str, *, takes_ensembles: bool = False) -> RunDir:
        """An existing run.

        Args:
            path: its folder.
            takes_ensembles: whether the folder of an ensemble will do as well.

        Raises:
            FileNotFoundError: no such folder, or no run in it.
            ValueError: it is an ensemble, or a record of it holds something else than a run writes.
        """
        run = cls(Path(path).expanduser())
        if not str(path):  # else it would be the folder that the user stands in
            raise FileNotFoundError("run_dir is empty; give the folder that a training run printed")
        if not run.path.is_dir():
            raise FileNotFoundError(f"run_dir={path} is not a folder; give the folder that a training run printed")
        if not run.config_file.is_file() or not run.status_file.is_file():
            found = ", ".join(sorted(p.name for p in run.path.iterdir())[:6]) or "nothing"
            raise FileNotFoundError(
                f"run_dir={path} holds no run: config.yaml and status.json are expected, found {found}"
            )
        if run.ensemble_file.is_file() and not takes_ensembles:
            raise ValueError(
                f"run_dir={path} is an ensemble of runs, which evaluate, compare, predict and export take; give the "
                "folder of one of these runs (ensemble.json names them)"
            )
        run.check_records()
        return run

    def check_records(self) -> None:
        """Refuse a folder whose records hold something else than a run writes.

        Raises:
            ValueError: names the file and what does not fit.
        """
        from pneumolit.run_checks import RECORDS, check_links, check_metrics, check_record

        check_links(self.path)
        self.read_config()
        for name, checks in RECORDS.items():
            file = self.path / name
            if file.is_file():
                check_record(read_json(file), file, checks)
        for file in sorted(self.path.glob("evaluation/*/metrics.json")):
            check_metrics(read_json(file), file)

    def ledger_folder(self, otherwise: Path) -> Path:
        """Folder of the ledger that counts this run's looks, from wherever a command is started.

        Args:
            otherwise: the caller's output folder, for a run that lies outside the usual places.
        """
        parents = self.path.absolute().parents
        for parent in parents:
            if (parent / LEDGER_NAME).is_file():
                return parent
        usual = [p.parent for p in parents[:3] if p.name in {"train", "sweeps", "tune"}]
        return usual[0] if usual else otherwise

    # Files that stand before training.
    @property
    def config_file(self) -> Path:
        """The composed configuration, resolved."""
        return self.path / "config.yaml"

    def read_config(self) -> dict[str, Any]:
        """The composed configuration as plain values; a tag that would make anything else of a text is refused.

        Raises:
            ValueError: it is no YAML of plain values, or does not hold the settings of a run.
        """
        from pneumolit.run_checks import check_settings

        return check_settings(read_yaml(self.config_file), self.config_file)

    @property
    def environment_file(self) -> Path:
        """Versions, device, weights: what the run ran on."""
        return self.path / "environment.json"

    @property
    def status_file(self) -> Path:
        """Whether the run is running, done, failed, interrupted or pruned, and why; which code ran it."""
        return self.path / "status.json"

    @property
    def data_file(self) -> Path:
        """Classes, counts, priors and fingerprints of the data."""
        return self.path / "data.json"

    @property
    def split_file(self) -> Path:
        """Every image of the data set and its side."""
        return self.path / "split.csv"

    @property
    def freeze_plan_file(self) -> Path:
        """What trained and what did not."""
        return self.path / "freeze_plan.json"

    @property
    def job_file(self) -> Path:
        """Of a job of a sweep: its overrides, attempts, device, and how the last attempt ended."""
        return self.path / "job.json"

    @property
    def log_file(self) -> Path:
        """Of a job of a sweep: what it printed, attempt after attempt."""
        return self.path / "log.txt"

    @property
    def lock_file(self) -> Path:
        """Held by the process that trains here."""
        return self.path / ".lock"

    # Files of the training.
    @property
    def metrics_file(self) -> Path:
        """One row per epoch."""
        return self.path / "metrics.csv"

    @property
    def checkpoint_folder(self) -> Path:
        """Where best.ckpt and last.ckpt lie."""
        return self.path / "checkpoints"

    def checkpoint(self, which: str) -> Path:
        """Path of a checkpoint: `best`, `last`, `best_<metric>`, and `stage1_best` and so on for earlier stages."""
        return self.checkpoint_folder / f"{which}.ckpt"

    @property
    def tensorboard_folder(self) -> Path:
        """Event files."""
        return self.path / "tensorboard"

    # Files of the evaluation.
    @property
    def calibration_file(self) -> Path:
        """Slope, intercept, operating points."""
        return self.path / "calibration.json"

    def evaluation(self, name: str) -> EvaluationDir:
        """Files of one evaluated set."""
        return EvaluationDir(self.path / "evaluation" / name)

    def evaluation_folder(self, name: str) -> Path:
        """Predictions, metrics and pictures of one evaluated set."""
        return self.evaluation(name).path

    def predictions_file(self, name: str) -> Path:
        """One row per image."""
        return self.evaluation(name).predictions_file

    def evaluation_metrics_file(self, name: str) -> Path:
        """Every number of one evaluated set."""
        return self.evaluation(name).metrics_file

    def evaluation_report_file(self, name: str) -> Path:
        """The numbers in words and tables."""
        return self.evaluation(name).report_file

    def explanation(self, name: str) -> ExplanationDir:
        """Heat maps of one evaluated set."""
        return ExplanationDir(self.path / "explanation" / name)

    @property
    def reference_file(self) -> Path:
        """What training films look like: thresholds, and how often they are right."""
        return self.path / "reference.json"

    @property
    def reference_arrays_file(self) -> Path:
        """Likewise: features and weights."""
        return self.path / "reference.safetensors"

    @property
    def training_curves_file(self) -> Path:
        """Loss and ranking by epoch."""
        return self.path / "training.png"

    @property
    def page_file(self) -> Path:
        """The run at a glance."""
        return self.path / "report.html"

    @property
    def model_card_page_file(self) -> Path:
        """The items of two reporting guidelines, answered from the record."""
        return self.path / "model_card.html"

    @property
    def model_card_file(self) -> Path:
        """The same as Markdown."""
        return self.path / "model_card.md"

    @property
    def may_i_use_file(self) -> Path:
        """What the model has seen, what a result would mean, where it is known to fail."""
        return self.path / "may_i_use.html"

    @property
    def ensemble_file(self) -> Path:
        """Of an ensemble, which is a folder like a run: its members, their weights, how their scores are combined."""
        return self.path / "ensemble.json"

    def write_status(self, state: str, **details: Any) -> None:
        """Update status.json, keeping what it already says."""
        known = read_json(self.status_file) if self.status_file.is_file() else {}
        known.pop("reason", None)  # of an earlier failure or stop
        write_json(self.status_file, {**known, "state": state, "time": utc_now(), **details})

    def append_metrics(self, row: Mapping[str, float]) -> None:
        """Add one epoch; a row of the same epoch is replaced, so that each stands once."""
        self._write_metrics([r for r in self.read_metrics() if r["epoch"] != row["epoch"]] + [dict(row)])

    def _write_metrics(self, rows: Sequence[Mapping[str, float]]) -> None:
        columns = list(dict.fromkeys(name for r in rows for name in r))
        out = io.StringIO()
        writer = csv.DictWriter(out, columns, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
        write_text(self.metrics_file, out.getvalue())

    def keep_epochs(self, epochs: int) -> None:
        """Drop the rows of epochs that a resumed run will repeat."""
        rows = self.read_metrics()
        if any(row["epoch"] > epochs for row in rows):
            self._write_metrics([row for row in rows if row["epoch"] <= epochs])

    def read_metrics(self) -> list[dict[str, float]]:
        """All epochs; a value that an epoch lacks is absent from its row."""
        if not self.metrics_file.is_file():
            return []
        try:
            with self.metrics_file.open(newline="") as handle:
                return [{k: float(v) for k, v in row.items() if v} for row in csv.DictReader(handle)]
        except (ValueError, TypeError, csv.Error) as error:
            raise ValueError(f"{self.metrics_file} is damaged: {error}; put the run's own file back") from error

    def forget_scores(self) -> None:
        """Remove calibration and evaluations of weights that are no longer the last ones."""
        self.calibration_file.unlink(missing_ok=True)
        shutil.rmtree(self.path / "evaluation", ignore_errors=True)
        shutil.rmtree(self.path / "explanation", ignore_errors=True)

    def write_split(self, rows: Iterable[Mapping[str, Any]]) -> None:
        """Write split.csv: path, split, label, patient_id, cause, series, is_copy."""
        rows = iter(rows)
        first = next(rows, {})
        with _written_whole(self.split_file) as handle:
            writer = csv.DictWriter(LineFeeds(handle), list(first), lineterminator="\r\n")
            writer.writeheader()
            writer.writerows(chain([first], rows))

    def read_split(self) -> Iterator[dict[str, str]]:
        """Rows of split.csv, in the order of the image store, as `read_split_csv` gives them.

        Raises:
            ValueError: also where a column that a run writes is missing, or a path leads out of the data root.
        """
        for row in read_split_csv(self.split_file):
            missing = [name for name in _SPLIT_COLUMNS if name not in row]
            if missing:
                raise ValueError(f"{self.split_file} lacks the columns {missing}; put the run's own file back")
            if os.path.isabs(row["path"]) or ".." in row["path"].split("/"):  # noqa: PTH117  a Path per row is slow
                raise ValueError(f"{self.split_file} names {row['path']!r}, which is not below the data root")
            yield row

    def write_predictions(self, name: str, predictions: Predictions) -> None:
        """Write predictions.csv of an evaluated set."""
        write_text(self.predictions_file(name), predictions.to_csv())

    def read_predictions(self, name: str) -> Predictions:
        """Read predictions.csv of an evaluated set."""
        from pneumolit.predictions import Predictions

        data = read_json(self.data_file)
        if self.evaluation_metrics_file(name).is_file():  # another set may tell only normal from pneumonia
            data["positive"] = read_json(self.evaluation_metrics_file(name))["positive"]
        # As it is: a carriage return may be part of a file name.
        with self.predictions_file(name).open(newline="", encoding="utf-8", errors="surrogateescape") as handle:
            text = handle.read()
        try:
            return Predictions.from_csv(text, tuple(data["positive"]), data["prior_log_odds"])
        except (ValueError, TypeError, csv.Error) as error:
            raise ValueError(
                f"{self.predictions_file(name)} is damaged: {error}; score the set again: python -m pneumolit.evaluate "
                f"run_dir={self.path} ... rescore=true"
            ) from error


class SweepDir:
    """Paths of a sweep: one run folder per job, named by its fingerprint, and what all of them say together.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def job(self, fingerprint: str) -> RunDir:
        """Folder of a job."""
        return RunDir(self.path / fingerprint)

    @property
    def record_file(self) -> Path:
        """The jobs of the last call: fingerprints, overrides, what varies."""
        return self.path / "sweep.json"

    @property
    def csv_file(self) -> Path:
        """One line per job."""
        return self.path / "sweep.csv"

    @property
    def markdown_file(self) -> Path:
        """Leaderboard and failures as text."""
        return self.path / "sweep.md"

    @property
    def page_file(self) -> Path:
        """The same with pictures, one file."""
        return self.path / "sweep.html"

    @property
    def lock_file(self) -> Path:
        """Held by the process that runs the sweep."""
        return self.path / ".lock"

    @property
    def superseded_folder(self) -> Path:
        """Jobs of other code that were run again."""
        return self.path / "superseded"


class TuneDir:
    """Paths of a search: its study, a run folder per point, and what comes out.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    def trial(self, fingerprint: str) -> RunDir:
        """Run folder of a point; trials of the same point share it."""
        return RunDir(self.path / "trials" / fingerprint)

    @property
    def journal_file(self) -> Path:
        """The study, where no other storage is given."""
        return self.path / "study.log"

    @property
    def lock_file(self) -> Path:
        """Held for moments: while the study is made, while its tables are written."""
        return self.path / ".lock"

    def worker_file(self, name: str) -> Path:
        """Held by a process as long as it works on the study."""
        return self.path / "workers" / f"{name}.lock"

    @property
    def csv_file(self) -> Path:
        """One line per trial."""
        return self.path / "trials.csv"

    @property
    def markdown_file(self) -> Path:
        """The best trials and what came of the others, as text."""
        return self.path / "tune.md"

    @property
    def page_file(self) -> Path:
        """The same with pictures, one file."""
        return self.path / "tune.html"

    def picture_file(self, name: str) -> Path:
        """A picture of the page: history, importance or slices."""
        return self.path / f"{name}.png"

    @property
    def recipe_name(self) -> str:
        """Name of the winner as an option of the group `experiment`."""
        return re.sub(r"[^A-Za-z0-9_-]", "_", self.path.name) + "_best"

    def option_file(self, group: str) -> Path:
        """The winner's recipe (group `experiment`), or an option that only this search has."""
        return self.path / group / f"{self.recipe_name}.yaml"


class CompareDir:
    """Paths of a comparison of many runs.

    Args:
        path: the folder; it need not exist yet.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)

    @property
    def csv_file(self) -> Path:
        """One line per method, what could not be compared included."""
        return self.path / "comparison.csv"

    @property
    def pairs_file(self) -> Path:
        """One line per two methods that were tested against each other."""
        return self.path / "pairs.csv"

    @property
    def markdown_file(self) -> Path:
        """The result in words and tables."""
        return self.path / "comparison.md"

    @property
    def page_file(self) -> Path:
        """The same with pictures, one file."""
        return self.path / "comparison.html"


class LineFeeds:
    """Ends rows of CSV with a line feed alone; `csv` quotes a carriage return only where rows end with one too."""

    def __init__(self, file: TextIO) -> None:
        self._file = file

    def write(self, row: str) -> int:
        """Write one row as `csv` gives it."""
        return self._file.write(row.removesuffix("\r\n") + "\n")


def read_split_csv(path: Path) -> Iterator[dict[str, str]]:
    """Rows of a split file, one by one: of a large set they would take much memory together.

    Raises:
        FileNotFoundError: there is none; this and the following when rows are asked for, not before.
        ValueError: the columns path and split are missing, or a row is shorter or longer than the header.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} is not a file; a split.csv of an earlier run is expected")
    with path.open(newline="", encoding="utf-8-sig", errors="surrogateescape") as handle:
        rows = _csv_rows(handle, path)
        first = next(rows, None)
        if first is None or not {"path", "split"} <= set(first):
            raise ValueError(f"{path} must have the columns path and split and at least one row")
        for line, row in enumerate(chain([first], rows), start=2):
            # Short rows lack values; of long ones the rest lies under the key None.
            if None in row or None in row.values() or any("\0" in str(value) for value in row.values()):
                raise ValueError(f"{path}, line {line}: a row with a text for every column is expected, got {row}")
            yield row


def _csv_rows(handle: TextIO, path: Path) -> Iterator[dict[str, str]]:
    rows = csv.DictReader(handle)
    try:
        yield from rows
    except csv.Error as error:  # no ValueError of its own
        raise ValueError(f"{path} cannot be read as CSV ({error}); is a quotation mark left open?") from error


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file.

    Raises:
        ValueError: the file holds no JSON, or no object; it is named.
    """
    try:
        text = path.read_text(encoding="utf-8", errors="surrogateescape")  # as `write_text`
        content: Any = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:  # the latter for a file of brackets alone
        raise ValueError(f"{path} cannot be read as JSON: {error}; put the file that was written back") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, found {type(content).__name__}; put the right file back")
    return content


def read_yaml(path: Path) -> Any:
    """Plain values of a YAML file that this project wrote.

    Raises:
        ValueError: it is no YAML of plain values, larger than any that a run writes, or has aliases, of which a file of
            some hundred bytes can make more values than any memory holds.
    """
    import yaml

    # libyaml reads a hundred configurations in the time in which Python reads ten.
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        if path.stat().st_size > _MOST_YAML:
            raise ValueError(f"{path.stat().st_size / 1e6:.0f} MB, a run's has some kilobytes")
        text = path.read_text(encoding="utf-8")
        if "*" in text and any(isinstance(event, yaml.AliasEvent) for event in yaml.parse(text, Loader=loader)):
            raise ValueError("it has aliases, which no run writes")
        return yaml.load(text, Loader=loader)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())
        raise ValueError(f"{path} is no YAML of plain values: {reason}; put the run's own back") from error


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write plain values atomically and in their order, without aliases, which `read_yaml` refuses."""
    import yaml

    class Dumper(yaml.SafeDumper):
        def ignore_aliases(self, data: Any) -> bool:
            return True  # a list that stands at two places is written twice

    write_text(path, yaml.dump(dict(content), Dumper=Dumper, sort_keys=False, allow_unicode=True))


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no number, and is never written")


def write_json(path: Path, content: Any) -> None:
    """Write JSON atomically; NaN is refused, since other readers of JSON do not take it."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically: readers see the old or the new one, also after a power cut."""
    with _written_whole(path) as handle:
        handle.write(text)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file atomically, as `write_text` does."""
    with _written_whole(path) as handle:
        handle.buffer.write(content)


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Within, an error of the system that names no file names this one: that of a full disk does not."""
    try:
        yield
    except OSError as error:
        if error.errno is None or error.filename is not None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def _written_whole(path: Path) -> Iterator[TextIOWrapper]:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with (
            naming(path),
            temporary.open("w", encoding="utf-8", errors="surrogateescape", newline="") as handle,
        ):
            yield handle
            handle.flush()
            os.fsync(handle.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@contextlib.contextmanager
def locked(path: Path, refusal: str, seconds: float | None = 0.0) -> Iterator[None]:
    """Hold a lock file.

    Args:
        path: of the lock.
        refusal: what to say where another process holds it.
        seconds: to wait for it; None: as long as it takes.

    Raises:
        ValueError: with these words.
    """
    lock = FileLock(path, timeout=-1 if seconds is None else seconds)
    try:
        lock.acquire()
    except Timeout:
        raise ValueError(refusal) from None
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def held_alone(path: Path, refusal: str) -> Iterator[None]:
    """As `locked`, for a place of the user's own: the lock file is gone afterwards.

    Raises:
        ValueError: with these words.
    """
    with locked(path, refusal):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)  # while it is held: whoever waits for it opens a new one


def is_locked(path: Path) -> bool:
    """Whether a process holds a lock file."""
    if not path.exists():
        return False
    lock = FileLock(path, timeout=0)
    try:
        lock.acquire()
    except Timeout:
        return True
    lock.release()
    return False


def shortest(folder: Path) -> Path:
    """A folder or file as a person would type it from here; the folder one stands in with all of its name."""
    with contextlib.suppress(ValueError):
        return found if (found := folder.absolute().relative_to(Path.cwd())).name else folder.absolute()
    return folder.absolute()


def printable(text: str, keep: str = "") -> str:
    r"""A text as it may be shown: names hold bytes that are no text, and signs that steer the terminal.

    >>> printable("a\nb\x1b[2J")
    'a\\nb\\x1b[2J'
    """
    return "".join(c if c.isprintable() or c in keep else ascii(c)[1:-1] for c in text)


def decoded(text: str) -> str:
    """A text whose file names may be no UTF-8, with a mark for what is none."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def utc_now() -> str:
    """The time in ISO 8601, UTC, whole seconds."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def record_look(output_folder: Path, *, run: str, configuration: str, test_set: str, purpose: str) -> tuple[int, int]:
    """Add a line to the ledger of test looks.

    A look is a set of predictions made on a test split. The ledger is only ever appended to.

    Args:
        output_folder: holds the ledger of all runs.
        run: name of the run folder.
        configuration: hash of what was decided, seeds and paths aside.
        test_set: fingerprint of the test images.
        purpose: why it was looked at.

    Returns:
        (n, m): this is look n at this test set, by its m-th configuration.
    """
    ledger = output_folder / LEDGER_NAME
    output_folder.mkdir(parents=True, exist_ok=True)
    with FileLock(ledger.with_suffix(".lock")):
        earlier = [look for look in read_looks(output_folder) if look["test_set"] == test_set]
        configurations = list(dict.fromkeys([*(look["configuration"] for look in earlier), configuration]))
        look = {
            "time": utc_now(),
            "run": run,
            "configuration": configuration,
            "test_set": test_set,
            "purpose": purpose,
        }
        is_cut_off = ledger.is_file() and ledger.read_bytes()[-1:] not in {b"", b"\n"}
        with naming(ledger), ledger.open("a", encoding="utf-8") as handle:
            # Plain ASCII: no line break within a text, no half character after a crash.
            handle.write("\n" * is_cut_off + json.dumps(look) + "\n")
            handle.flush()
            os.fsync(handle.fileno())
    return len(earlier) + 1, configurations.index(configuration) + 1


def read_looks(output_folder: Path) -> list[dict[str, str]]:
    """All looks so far, oldest first; a line that is none, such as one cut off by a crash, is passed over."""
    ledger = output_folder / LEDGER_NAME
    looks = []
    if ledger.is_file():
        for line in ledger.read_text(encoding="utf-8", errors="replace").split("\n"):
            try:
                look = json.loads(line)
            except (ValueError, RecursionError):
                continue
            if isinstance(look, dict) and all(isinstance(look.get(key), str) for key in _LOOK):
                looks.append(look)
    return looks


def fingerprint(parts: Iterable[str]) -> str:
    """Short hash of some strings."""
    digest, between = hashlib.sha256(), b""
    for part in parts:
        digest.update(between + part.encode("utf-8", "surrogateescape"))
        between = b"\0"
    return digest.hexdigest()[:16]
