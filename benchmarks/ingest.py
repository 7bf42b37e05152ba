"""Building the store from original films, and opening it again.

python -m benchmarks.ingest root=FOLDER [copies=2000] [size=256] [rounds=5]

    <readers>  ways to read one film, on one thread, from bytes in memory; those whose library is installed
    pneumolit  building the store of real copies of the films under own names: reading the files, hashing, decoding,
               writing, fsync; no content is taken from another file

The readers that stay within 0.3 gray levels of plain Pillow are candidates; the fastest of them times the number of
cores is what the store is compared with, turn by turn (median of the ratios). Then a set of 5,856 films (tiny ones:
their size does not matter) is opened whose store is in place. The last line is one JSON object.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks._common.arguments import read_arguments, require, require_positive
from benchmarks._common.contender import Contender, lineup
from benchmarks._common.films import write_kaggle_films
from benchmarks._common.machine import count_cores
from benchmarks._common.report import print_json, print_rates
from benchmarks._common.rounds import interleave, medians
from benchmarks._loops.readers import installed_readers

_CLOSE = 0.3  # gray levels of 255, mean absolute difference
_OPENED = 5856  # films of the Kaggle set
_TRIALS = 3  # rounds in which the fastest reader is found


@dataclass(frozen=True)
class Options:
    """Keys of the command line."""

    root: Path
    copies: int = 2000
    size: int = 256
    rounds: int = 5
    folder: Path | None = None  # where the copies go for the time; null: the system's temporary folder


def main() -> None:
    options = read_arguments(Options, sys.argv[1:], __doc__)
    require(options.root.is_dir(), f"root={options.root} is not a folder")
    originals = sorted(options.root.rglob("*.jpeg"))
    require(bool(originals), f"root={options.root} holds no .jpeg files")
    require_positive(options, "copies", "size", "rounds")
    require(options.folder is None or options.folder.is_dir(), f"folder={options.folder} is not a folder")
    with tempfile.TemporaryDirectory(prefix="benchmark-", dir=options.folder) as folder, lineup() as start:
        _measure(options, originals, Path(folder), start)


def copy_films(originals: list[Path], folder: Path, count: int) -> None:
    """So many real copies under own names, in class folders."""
    for number in range(count):
        source = originals[number % len(originals)]
        target = folder / source.parent.name / f"{source.stem}-copy{number // len(originals)}{source.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
    os.sync()  # or the disk would be busy with them in the first rounds


def _rates(rounds: Mapping[str, list[Mapping[str, Any]]]) -> dict[str, list[float]]:
    return {name: [r["images"] / r["seconds"] for r in found] for name, found in rounds.items()}


def _measure(options: Options, originals: list[Path], folder: Path, start: Callable[..., Contender]) -> None:
    copy_films(originals, folder / "copies", options.copies)
    readers = [
        start(name, "read_films", [f"reader={name}", f"size={options.size}", f"data.root={options.root}"])
        for name in installed_readers()
    ]
    differences = {reader.name: round(reader.facts["difference"], 3) for reader in readers}
    count = min(len(originals), options.copies)
    for reader in readers:
        reader.run(count)
    tried = _rates(interleave({reader.name: partial(reader.run, count) for reader in readers}, _TRIALS))
    middle = medians(tried)
    fastest = max((r for r in readers if differences[r.name] <= _CLOSE), key=lambda r: middle[r.name])

    builder = start("pneumolit", "build_store", [f"size={options.size}", f"data.root={folder / 'copies'}"])
    builder.run(1)
    # Long enough turns of both: the speed of a shared machine changes from second to second.
    turns = {fastest.name: partial(fastest.run, max(count, options.copies // 4)), "pneumolit": partial(builder.run, 1)}
    rounds = interleave(turns, options.rounds)
    rates = _rates(rounds)
    middle |= medians(rates)
    pairs = zip(rates["pneumolit"], rates[fastest.name], strict=True)
    ratio = median(built / (read * count_cores()) for built, read in pairs)

    write_kaggle_films(folder / "opened", _OPENED)
    opener = start("opening", "open_data", [f"cache_dir={folder / 'cache'}", f"data.root={folder / 'opened'}"])
    opened = interleave({"opening": partial(opener.run, 1)}, options.rounds)["opening"]
    seconds = {key: round(median(r[key] for r in opened), 4) for key in ("seconds", "store_seconds")}

    print(f"\n{options.copies} copies of {len(originals)} films, {options.size} px:")
    print_rates(middle, "images/s")
    print("  difference to plain Pillow: " + ", ".join(f"{name} {value:.2f}" for name, value in differences.items()))
    print(f"  the store is built at {ratio:.2f} of {fastest.name} x {count_cores()} cores")
    print(
        f"  a set of {_OPENED} films opens in {seconds['seconds']:.3f} s, its store in {seconds['store_seconds']:.3f} s"
    )
    print_json(
        "ingest",
        {
            **middle,
            "fastest": fastest.name,
            "ratios": {"pneumolit_over_fastest_times_cores": round(ratio, 3)},
            "rounds": {name: [round(rate, 1) for rate in values] for name, values in (tried | rates).items()},
            "difference": differences,
            "peak_mb": max(r["peak_mb"] for r in rounds["pneumolit"]),
            "opening": {"images": _OPENED, "load_data_s": seconds["seconds"], "open_store_s": seconds["store_seconds"]},
            "copies": options.copies,
            "size": options.size,
        },
    )


if __name__ == "__main__":
    main()
