"""A headless Chromium for tests: open a page, ask it questions, see what it asked for and complained about.

It is spoken to through a pipe in its own protocol (https://chromedevtools.github.io/devtools-protocol), so that nothing
but the browser has to be installed.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
# Questions to a page: images that are not shown, unfold everything, its width with what sticks out, its smallest text.
BROKEN = "[...document.images].filter((i) => !i.complete || i.naturalWidth === 0 || i.clientWidth === 0).length"
UNFOLD = "document.querySelectorAll('details').forEach((d) => { d.open = true; })"
WIDTH = "Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)"
SMALLEST = """Math.min(...[...document.querySelectorAll("body *")].filter((e) => e.checkVisibility() &&
  [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim()))
  .map((e) => parseFloat(getComputedStyle(e).fontSize)))"""
_SECONDS = 60.0  # for one answer; a busy machine starts a browser in ten
_FLAGS = (
    "--headless", "--disable-gpu", "--no-first-run", "--disable-background-networking", "--disable-component-update",
    "--disable-extensions", "--disable-sync", "--disable-dev-shm-usage", "--hide-scrollbars", "--no-sandbox",
    "--remote-debugging-pipe",
)  # fmt: skip


class Browser:
    """A running browser.

    Args:
        program: path of the browser.
        profile: an empty folder for its own files.
    """

    def __init__(self, program: str, profile: Path) -> None:
        read_end, self._commands = os.pipe()
        self._answers, write_end = os.pipe()
        # It reads from 3 and writes to 4; a shell may know no file number of two digits, so they come as 0 and 1.
        line = [program, *_FLAGS, f"--user-data-dir={profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["sh", "-c", 'exec "$@" 3<&0 4>&1 </dev/null >/dev/null', "sh", *line],
            stdin=read_end,
            stdout=write_end,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        os.close(read_end)
        os.close(write_end)
        self._numbers = itertools.count(1)
        self._unread = b""
        self.events: list[dict[str, Any]] = []

    def call(self, method: str, session: str | None = None, **params: Any) -> dict[str, Any]:
        """Send a command and wait for its answer."""
        number = next(self._numbers)
        message = {"id": number, "method": method, "params": params} | ({"sessionId": session} if session else {})
        os.write(self._commands, json.dumps(message).encode() + b"\0")
        while True:
            answer = self.read()
            if answer.get("id") == number:
                assert "error" not in answer, f"{method}: {answer['error']}"
                return dict(answer["result"])

    def read(self) -> dict[str, Any]:
        """The next message; events are kept as well."""
        end = time.monotonic() + _SECONDS
        while b"\0" not in self._unread:
            ready, _, _ = select.select([self._answers], [], [], max(0.0, end - time.monotonic()))
            assert ready, "the browser does not answer"
            found = os.read(self._answers, 1 << 20)
            assert found, "the browser has ended"
            self._unread += found
        text, _, self._unread = self._unread.partition(b"\0")
        message: dict[str, Any] = json.loads(text)
        if "method" in message:
            self.events.append(message)
        return message

    def open(self, address: str | Path, *, width: int = 1200, height: int = 900, media: str = "screen") -> Page:
        """Load a page in a window of that many CSS pixels and wait until it is there."""
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        page = Page(self, session)
        for part in ("Page", "Runtime", "Network", "Log"):
            page.call(f"{part}.enable")
        page.call("Emulation.setDeviceMetricsOverride", width=width, height=height, deviceScaleFactor=1, mobile=False)
        page.call("Emulation.setEmulatedMedia", media=media)
        page.call("Page.navigate", url=address.as_uri() if isinstance(address, Path) else address)
        page.wait_for("Page.loadEventFired")
        return page

    def close(self) -> None:
        """End the browser and all its processes."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._commands)
        os.close(self._answers)


class Page:
    """A loaded page."""

    def __init__(self, browser: Browser, session: str) -> None:
        self._browser, self._session = browser, session

    def call(self, method: str, **params: Any) -> dict[str, Any]:
        """Send a command to this page."""
        return self._browser.call(method, self._session, **params)

    def events(self, method: str) -> list[dict[str, Any]]:
        """Parameters of all events of a kind so far."""
        return [e["params"] for e in self._browser.events if e["method"] == method and e["sessionId"] == self._session]

    def wait_for(self, method: str) -> None:
        """Until an event of that kind has come."""
        while not self.events(method):
            self._browser.read()

    def evaluate(self, expression: str) -> Any:
        """Value of a JavaScript expression; a promise is waited for."""
        found = self.call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    @property
    def complaints(self) -> list[str]:
        """Errors and warnings on its console, and exceptions that nobody caught."""
        self.evaluate("0")  # events that were under way have come before this answer
        entries = [e["entry"] for e in self.events("Log.entryAdded")]
        found = [entry["text"] for entry in entries if entry["level"] in ("error", "warning")]
        found += [e["exceptionDetails"]["text"] for e in self.events("Runtime.exceptionThrown")]
        calls = [e for e in self.events("Runtime.consoleAPICalled") if e["type"] in ("error", "warning", "assert")]
        return found + [str(call["args"]) for call in calls]

    @property
    def requests(self) -> list[str]:
        """Addresses that it asked for, but for itself and what it holds."""
        self.evaluate("0")
        asked = [str(e["request"]["url"]) for e in self.events("Network.requestWillBeSent")]
        return [address for address in asked if not address.startswith(("data:", "file:"))]


@contextlib.contextmanager
def running_browser() -> Iterator[Browser]:
    """A browser for some tests, which are skipped with the reason where there is none."""
    program = next((path for name in PROGRAMS if (path := shutil.which(name))), None)
    if program is None:
        pytest.skip(f"no browser: none of {', '.join(PROGRAMS)} is installed (Debian: apt-get install chromium)")
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as profile:
        browser = Browser(program, Path(profile))
        try:
            yield browser
        finally:
            browser.close()
