"""What is wrong with a data set?   python -m pneumolit.audit data=chest_xray data.root=FOLDER.

Also: can printed results be right (claim=, claims_file=, published=true), what fills the cache (cache=true), and
where is the data set to be had (download=true).
"""

from __future__ import annotations

if __name__ == "__main__":  # before all else: Ctrl-C among the imports would show a traceback
    from pneumolit.interrupts import leave_at_once

    leave_at_once()

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pneumolit.auditing.claims import (
    audit_claim,
    audit_claims_file,
    audit_published,
    check_output,
)
from pneumolit.auditing.claims import read_claims_file as read_claims_file  # of a file of one's own
from pneumolit.auditing.showing import open_console
from pneumolit.entry import WRONG_INPUT, run_command

if TYPE_CHECKING:
    from rich.console import Console

# Where the published results are: packed beside the modules in a wheel, in docs/ in a checkout.
_PACKED = Path(__file__).resolve().parent / "published.csv"
PUBLISHED_FILE = _PACKED if _PACKED.is_file() else Path(__file__).resolve().parent.parent / "docs" / "published.csv"
CANNOT = 1  # exit code: the numbers cannot belong together
_CLAIMS = ("claim", "claims_file", "published")
_FLAGS = ("published", "cache", "download", "floor_on_test")
# What only one kind of audit reads.
_OWNERS: Mapping[str, tuple[str, ...]] = {
    "output": _CLAIMS,
    "prune": ("cache",),
    "folds": ("data",),
    "floor_on_test": ("data",),
    "name": ("data",),
}


def audit(cfg: dict[str, Any], folder: Path) -> None:
    """Audit what is given, and leave with 1 where printed numbers cannot be right."""
    kind = choose_audit(cfg)
    if kind in _CLAIMS:
        check_output(cfg["output"], is_table=kind != "claim")
    audits: dict[str, Callable[[dict[str, Any], Console], bool]] = {
        "claim": audit_claim,
        "claims_file": audit_claims_file,
        "published": lambda cfg, console: audit_published(cfg, console, PUBLISHED_FILE),
        "cache": _audit_cache,
        "download": _download,
        "data": _audit_data,
    }
    if not audits[kind](cfg, open_console()):
        raise SystemExit(CANNOT)


def choose_audit(cfg: Mapping[str, Any]) -> str:
    """Which of the audits is asked for: "data", "claim", "claims_file", "published", "cache" or "download".

    Raises:
        ValueError: none or several are, or a key is set that it does not read.
    """
    for key in _FLAGS:
        if not isinstance(cfg[key], bool):
            raise ValueError(f"{key} must be true or false, got {cfg[key]!r}")
    source = cfg["data"].get("source")
    if source is None and cfg["data"]["root"] is not None and cfg["run_dir"] is None:
        raise ValueError(
            f"data.root={cfg['data']['root']} tells where the images are but not how they lie; add data=chest_xray "
            "(train, val and test with NORMAL and PNEUMONIA), data=image_folder or data=manifest"
        )
    if source is not None and cfg["run_dir"] is not None:
        raise ValueError(
            "run_dir names the data set of a run, and data= another one; leave one of the two out, or give the run's "
            "split as data.split_file=FOLDER/split.csv"
        )
    given = [key for key in (*_CLAIMS, "cache", "download") if cfg[key] not in (None, False)]
    given += ["run_dir" if source is None else "data"] * (source is not None or cfg["run_dir"] is not None)
    if len(given) != 1:
        found = f"{' and '.join(given)} are given" if given else "nothing is given"
        raise ValueError(
            f"one thing can be audited at a time, and {found}: give data=chest_xray data.root=FOLDER (or "
            'run_dir=FOLDER), claim="n=234+390 acc=.928 spec=.901 sens=.932", claims_file=FILE.csv, published=true, '
            "cache=true or download=true"
        )
    kind = "data" if given[0] == "run_dir" else given[0]
    for key, owners in _OWNERS.items():
        if cfg[key] not in (None, False) and kind not in owners:
            raise ValueError(f"{key}={cfg[key]} has no effect with {given[0]}; it belongs to {' and '.join(owners)}")
    if cfg["name"] is not None and not re.fullmatch(r"\w[\w.-]*", str(cfg["name"])):
        raise ValueError(f"name must be the name of a folder, such as name=ward7, got {cfg['name']!r}")
    return kind


def loose_claim(arguments: Sequence[str]) -> str:
    """The claim that was meant where its numbers are arguments of their own; empty where none is.

    >>> loose_claim(["claim=n=234+390", "acc=.928", "output=fits.csv"])
    'n=234+390 acc=.928'
    """
    from pneumolit.evaluation.claim_text import is_column

    keys = [argument.partition("=")[0] for argument in arguments]
    is_loose = [key == "class" or is_column(key) for key in keys]
    if not any(is_loose):
        return ""
    pairs = zip(arguments, is_loose, strict=True)
    return " ".join(argument.removeprefix("claim=") for argument, loose in pairs if loose or argument[:6] == "claim=")


def _audit_data(cfg: dict[str, Any], console: Console) -> bool:
    from pneumolit.auditing.run import audit_data, print_audit
    from pneumolit.config import check_values

    check_values(cfg)
    print_audit(audit_data(cfg, console), console)
    return True


def _audit_cache(cfg: dict[str, Any], console: Console) -> bool:
    from pneumolit.auditing.cache import audit_cache

    audit_cache(cfg["cache_dir"], cfg["prune"], console)
    return True


def _download(cfg: dict[str, Any], console: Console) -> bool:
    from pneumolit.auditing.download import download

    download(console)
    return True


def main() -> None:
    """Entry point of the command."""
    import sys

    if whole := loose_claim(sys.argv[1:]):
        print(f'pneumolit: all numbers of a claim are one text in quotes: claim="{whole}"', file=sys.stderr)
        raise SystemExit(WRONG_INPUT)
    run_command("audit", audit)


if __name__ == "__main__":
    main()
