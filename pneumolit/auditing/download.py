"""Fetches the Kaggle set through kagglehub, and counts what came."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from pneumolit.auditing.counts import compare_with_known, count_images
from pneumolit.auditing.showing import say, show
from pneumolit.data.dataset import find_root
from pneumolit.data.network import answers
from pneumolit.data.records import read_kaggle_folder

if TYPE_CHECKING:
    from rich.console import Console

HANDLE = "paultimothymooney/chest-xray-pneumonia"
_SERVER = "https://www.kaggle.com"
_SECONDS = 10.0  # to wait for any answer of the server; a name that cannot be looked up may take minutes
_BY_HAND = f"{_SERVER}/datasets/{HANDLE}"
_WAYS = (
    "the same command where there is a network (pip install 'pneumolit[kaggle]' first), or the archive by hand: fetch "
    f"{_BY_HAND} with a browser, unpack it and set data.root=FOLDER"
)


def download(console: Console) -> Path:
    """Fetch the Kaggle set, or find it where it was fetched before, and say where it lies and whether it is whole.

    Raises:
        ValueError: the package is missing, the server does not answer, or what came is no such set.
    """
    from pneumolit.report.data_audit_tables import count_table
    from pneumolit.report.data_audit_words import known_sentences

    folder = fetch()
    try:
        root = find_root({"source": "kaggle", "root": str(folder)}, folder)
        counts = count_images(read_kaggle_folder(root, patient_key="image"))
    except (OSError, ValueError) as error:
        raise ValueError(
            f"what was downloaded to {folder} is not the data set: {error}; remove it and try again"
        ) from error
    show(console, count_table(counts))
    for line in known_sentences(compare_with_known(counts)):
        say(console, line)
    say(console, f"folder  {root}")
    say(console, f"next    python -m pneumolit.audit data=chest_xray data.root={root}")
    return root


def fetch(server: str = _SERVER, seconds: float = _SECONDS) -> Path:
    """The folder of the downloaded archive.

    Args:
        server: asked first, so that no network is noticed within seconds.
        seconds: to wait for its answer.

    Raises:
        ValueError: the package is missing, or the set cannot be had.
    """
    try:
        import kagglehub
    except ImportError as error:
        raise ValueError(f"download=true needs the package kagglehub; two ways out: {_WAYS}") from error
    if not answers(server, seconds):
        raise ValueError(
            f"download=true: {server} does not answer, so there is no network or a proxy is not set; "
            f"two ways out: {_WAYS}"
        )
    try:
        return Path(kagglehub.dataset_download(HANDLE))
    except Exception as error:  # of many kinds: network, authentication, disk, a changed package
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise ValueError(f"download=true: the set could not be fetched ({reason}); two ways out: {_WAYS}") from error
