"""Fetching the Kaggle set: without package or network one message with the ways out, else counts and the place."""

from __future__ import annotations

import io
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from rich.console import Console

from pneumolit.auditing.download import download, fetch

WAYS = r"two ways out: .*pip install 'pneumolit\[kaggle\]'.*data.root=FOLDER"


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """`package(body)`: a kagglehub whose `dataset_download(handle)` has that body."""

    def write(body: str) -> None:
        (tmp_path / "site/kagglehub").mkdir(parents=True)
        head = "def dataset_download(handle):\n    assert handle == 'paultimothymooney/chest-xray-pneumonia'\n"
        text = f"{head}    {body}\n"
        (tmp_path / "site/kagglehub/__init__.py").write_text(text)
        monkeypatch.delitem(sys.modules, "kagglehub", raising=False)
        monkeypatch.syspath_prepend(str(tmp_path / "site"))

    yield write
    sys.modules.pop("kagglehub", None)


@pytest.fixture
def silent_server() -> Iterator[str]:
    """An address that takes connections and never says a word."""
    with socket.socket() as listening:
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"


@pytest.fixture
def answering(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pneumolit.auditing.download.answers", lambda server, seconds: True)


def test_without_the_package_the_ways_out_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(ValueError, match=f"needs the package kagglehub; {WAYS}"):
        fetch()


def test_a_server_that_is_silent_or_not_there_is_given_up_within_seconds(
    package: Callable[[str], None], silent_server: str
) -> None:
    package("raise AssertionError('asked though the server is silent')")
    for server in (silent_server, "http://127.0.0.1:9"):
        begun = time.monotonic()
        with pytest.raises(ValueError, match=f"{server} does not answer, .*{WAYS}"):
            fetch(server, 0.5)
        assert time.monotonic() - begun < 20


def test_a_name_that_is_looked_up_for_minutes_is_given_up_within_seconds(
    package: Callable[[str], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    package("raise AssertionError('asked though nobody answers')")
    is_over = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *args, **more: is_over.wait(30) and [])
    begun = time.monotonic()
    with pytest.raises(ValueError, match="does not answer"):
        fetch("http://somewhere", 0.2)
    assert time.monotonic() - begun < 20
    is_over.set()


def test_a_download_that_fails_says_why_in_one_line(package: Callable[[str], None], answering: None) -> None:
    package("raise RuntimeError('403 Client Error:\\n forbidden')")
    with pytest.raises(ValueError, match=rf"\(403 Client Error: forbidden\); {WAYS}"):
        fetch()


def test_what_was_fetched_is_counted_and_its_place_is_told(
    package: Callable[[str], None], answering: None, write_films: Callable[..., Path], tmp_path: Path
) -> None:
    root = write_films(tmp_path / "got" / "chest_xray")  # the archive holds the set in a folder of this name
    package(f"return {str(tmp_path / 'got')!r}")
    out = io.StringIO()
    assert download(Console(file=out, width=200)) == root
    assert "Counts differ from the known ones of the Kaggle set: 64 images, 5,856 are known." in out.getvalue()
    assert f"data.root={root}" in out.getvalue()


def test_what_is_no_such_set_is_refused(package: Callable[[str], None], answering: None, tmp_path: Path) -> None:
    (tmp_path / "got").mkdir()
    package(f"return {str(tmp_path / 'got')!r}")
    with pytest.raises(ValueError, match=r"is not the data set: .* has no folder train"):
        download(Console(file=io.StringIO()))
