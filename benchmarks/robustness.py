"""What a model bears: its numbers on films that are distorted more and more.

python -m benchmarks.robustness runs=FOLDER [kind=stress] [split=block] [figure=FILE.png]

FOLDER is a run, a saved ensemble, a folder of such, for instance a sweep's, or several separated by commas. Runs of one
recipe (seeds) are put together as mean and standard deviation. kind=stress takes the five families of the stress
validation one by one, kind=curves five levels each of blur, noise, contrast and JPEG. AUROC, and sensitivity and
specificity by the largest logit and by the primary rule. The test split is refused. figure= draws the curves. The last
line is one JSON object.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from benchmarks._common.arguments import read_arguments, require
from benchmarks._common.report import print_json
from benchmarks._robustness.distortions import CURVES
from benchmarks._robustness.measure import NUMBERS, Found, measure
from pneumolit.rundir import DONE, RunDir, read_json


@dataclass(frozen=True)
class Options:
    """Keys of the command line."""

    runs: str
    kind: str = "stress"
    split: str = "block"
    figure: Path | None = None
    data_root: Path | None = field(default=None, metadata={"key": "data.root"})
    cache_dir: Path | None = None


def main() -> None:
    options = read_arguments(Options, sys.argv[1:], __doc__)
    require(options.split in ("block", "val"), f"split must be block or val, got {options.split}; test is not for this")
    require(options.kind in ("stress", "curves"), f"kind must be stress or curves, got {options.kind}")
    require(options.figure is None or options.kind == "curves", "figure= draws the curves of kind=curves")
    runs = [run for text in options.runs.split(",") for run in _finished(Path(text))]
    require(bool(runs), f"runs={options.runs}: no finished run there; give the folder of a run or of a sweep")
    by_recipe: dict[str, list[Found]] = {}
    for run in runs:
        found = measure(run, options.split, options.kind, options.data_root, options.cache_dir)
        by_recipe.setdefault(_recipe(run), []).append(found)
        print(f"  {run.path.name}  {_recipe(run)}  plain {found['plain']['auroc']:.4f}", flush=True)
    table = {name: _together(found) for name, found in by_recipe.items()}
    for name, rows in table.items():
        print(f"\n{name} ({len(by_recipe[name])} runs)")
        print(f"  {'films':<18} {'AUROC':>16} {'argmax sens / spec':>20} {'primary sens / spec':>20}")
        for kind, numbers in rows.items():
            cells = [
                f"{numbers[f'{rule}_sensitivity'][0]:.3f} / {numbers[f'{rule}_specificity'][0]:.3f}"
                for rule in ("argmax", "primary")
            ]
            spread = f" ± {numbers['auroc'][1]:.4f}" if len(by_recipe[name]) > 1 else ""
            print(f"  {kind:<18} {numbers['auroc'][0]:.4f}{spread:>9} {cells[0]:>20} {cells[1]:>20}")
    if options.figure is not None:
        draw(table, options.figure)
    print_json("robustness", {"split": options.split, "kind": options.kind, "recipes": table})


def _finished(folder: Path) -> Iterator[RunDir]:
    """The run in a folder, or those in its subfolders."""
    places = [folder] if (folder / "status.json").is_file() else sorted(folder.glob("*/"))
    for place in places:
        run = RunDir(place)
        if run.status_file.is_file() and read_json(run.status_file)["state"] == DONE:
            yield run


def _recipe(run: RunDir) -> str:
    """What a run is one of several seeds of: its experiment, what its sweep varied, its configuration."""
    configuration = read_json(run.status_file)["configuration"]
    if run.ensemble_file.is_file():
        return f"ensemble={read_json(run.ensemble_file)['ensemble']} ({configuration})"
    job = read_json(run.job_file) if run.job_file.is_file() else {"overrides": [], "choices": {}}
    words = [override for override in job["overrides"] if override.startswith("experiment=")]
    words += [f"{key}={value}" for key, value in job["choices"].items() if key not in ("seed", "experiment")]
    return f"{', '.join(words)} ({configuration})".strip()


def _together(found: Sequence[Found]) -> dict[str, dict[str, tuple[float, float]]]:
    """Mean and standard deviation over runs."""
    table: dict[str, dict[str, tuple[float, float]]] = {}
    for name in found[0]:
        columns = {key: np.array([one[name][key] for one in found]) for key in NUMBERS}
        table[name] = {
            key: (float(c.mean()), float(c.std(ddof=1)) if len(c) > 1 else 0.0) for key, c in columns.items()
        }
    return table


def draw(table: Mapping[str, Mapping[str, Mapping[str, tuple[float, float]]]], path: Path) -> None:
    """AUROC and balanced accuracy by the primary rule over the level of every distortion, a line per recipe."""
    from pneumolit.report.canvas import blank_figure, names_and_markers, save, style

    figure = blank_figure(11.0, 5.8 + 0.25 * len(table))
    axes = figure.subplots(2, len(CURVES), sharey="row")  # one scale, so that what hurts most is seen to
    lines = names_and_markers(list(table))
    for column, (kind, curve) in enumerate(CURVES.items()):
        places = curve.steps
        keys = ["plain" if level == curve.neutral else f"{kind} {level:g}" for level in places]
        for row, title in enumerate(("AUROC", "balanced accuracy, primary rule")):
            ax = axes[row][column]
            for (name, colour, marker), rows in zip(lines, table.values(), strict=True):
                if row == 0:
                    values = [rows[key]["auroc"][0] for key in keys]
                else:
                    values = [
                        (rows[key]["primary_sensitivity"][0] + rows[key]["primary_specificity"][0]) / 2 for key in keys
                    ]
                ax.plot(range(len(places)), values, marker=marker, color=colour, label=name)
            ax.set_xticks(range(len(places)), [curve.name_of(level) for level in places])
            style(ax, curve.title if row == 0 else "", curve.unit if row else "", title if column == 0 else "")
    figure.legend(*axes[0][0].get_legend_handles_labels(), loc="outside lower left", frameon=False)
    save(figure, path)


if __name__ == "__main__":
    main()
