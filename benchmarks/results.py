"""The result table: records of finished runs, and the pages made from them.

python -m benchmarks.results collect=FOLDER   records of the finished jobs of a sweep or of ensembles, then the pages
python -m benchmarks.results                  the pages alone: docs/results.md, the table of README.md, and what was
                                              found in the header of every recipe

FOLDER is the folder of a sweep over named experiments, such as `python -m pneumolit.train --multirun sweep=results
test=true` leaves (several: separated by commas), or outputs/ensembles, where those of all folds of one seed are taken.
A record is written to docs/results/runs/<study>/<row>/<seed>; one that is there already is written anew. The text above
the tables is docs/results/intro.md. The last line is one JSON object.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks._common.arguments import read_arguments, require
from benchmarks._common.report import print_json
from benchmarks._results.page import found_line, put_between, readme_table, results_page, with_found
from benchmarks._results.records import find_finished, read_records, row_of_run, seed_of, write_record
from benchmarks._results.rows import make_rows, read_published
from pneumolit.rundir import RunDir

_ROOT = Path(__file__).resolve().parent.parent
BEST = "best"
# Of the README's short table: recipes of our own, each study's best row and what was trained from scratch.
_SHORT = (
    "best_ensemble", "best", "best_fast",
    "study_a/two_layer_cnn", "study_a/resnet50_partial_lite2", "study_a/densenet121_full_lite0",
    "study_c/logistic", "study_c/mlp", "study_c/resnet18_lite0", "study_d/baseline_128",
    "study_d/by_patients/baseline_128", "study_d/densenet201_sgd_1e-3_dropout_2_batch_16_lite0",
    "study_d/by_patients/densenet201_sgd_1e-3_dropout_2_batch_16_lite0", "study_e/baseline_cnn", "study_e/v6_lite2",
)  # fmt: skip


@dataclass(frozen=True)
class Options:
    """Keys of the command line."""

    collect: str = ""
    docs: Path = field(default=_ROOT / "docs")
    readme: Path = field(default=_ROOT / "README.md")
    conf: Path = field(default=_ROOT / "conf")


def main() -> None:
    options = read_arguments(Options, sys.argv[1:], __doc__)
    runs = options.docs / "results" / "runs"
    written = 0
    for (row, _), run in _of_rows(_finished(options.collect)).items():
        try:
            place = write_record(row, run, runs)
        except ValueError as error:
            _say_left(run, error)
            continue
        written += 1
        hint = "" if _is_scored(run) else f"  no test: python -m pneumolit.evaluate run_dir={run.path} split=test"
        print(f"  {place.relative_to(options.docs)}{hint}")
    write_pages(options.docs, options.readme, options.conf)
    print_json("results", {"written": written, "records": len(list(runs.rglob("metrics.json")))})


def _finished(collect: str) -> Iterator[RunDir]:
    for text in filter(None, collect.split(",")):
        folder = Path(text)
        require(folder.is_dir(), f"collect={text} is no folder; give the folder of a sweep")
        yield from find_finished(folder)


def _of_rows(finished: Iterable[RunDir]) -> dict[tuple[str, int], RunDir]:
    """The run of each row and seed; of several the one that was scored on test."""
    found: dict[tuple[str, int], RunDir] = {}
    for run in sorted(finished, key=_is_scored, reverse=True):
        try:
            row, seed = row_of_run(run), seed_of(run)
        except (ValueError, OSError) as error:  # OSError: there is no such recipe, or a member's folder is gone
            _say_left(run, error)
            continue
        first = found.setdefault((row, seed), run)
        if first is not run:
            both = f"{first.path} and {run.path}"
            require(not _is_scored(run), f"{row}, seed {seed}, was scored twice: {both}; collect one of them")
            _say_left(run, ValueError(f"{first.path} is a run of the same row and seed, and is taken"))
    return found


def _say_left(run: RunDir, error: Exception) -> None:
    print(f"  {run.path.name}: not taken: {str(error).splitlines()[0]}")


def _is_scored(run: RunDir) -> bool:
    return run.evaluation_metrics_file("test").is_file()


def write_pages(docs: Path, readme: Path, conf: Path) -> None:
    """docs/results.md, the README's table between its marks, and a line in the header of every recipe with records."""
    rows = make_rows(read_records(docs / "results" / "runs"))
    published = read_published(docs / "published.csv")
    intro = (docs / "results" / "intro.md").read_text(encoding="utf-8")
    (docs / "results.md").write_text(results_page(rows, published, intro, BEST), encoding="utf-8")
    table = readme_table(rows, published, _SHORT)
    readme.write_text(put_between(readme.read_text(encoding="utf-8"), table), encoding="utf-8")
    for row in rows:
        recipe = conf / "experiment" / f"{row.name}.yaml"
        if recipe.is_file() and "accuracy" in row.estimates:
            recipe.write_text(with_found(recipe.read_text(encoding="utf-8"), found_line(row)), encoding="utf-8")


if __name__ == "__main__":
    main()
