"""TensorBoard's tabs over two finished runs, opened in a browser and compared with the runs' own files.

A tab that stays empty, an old layout or a table without a run is seen by nothing that reads event files alone.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import select
import shutil
import signal
import subprocess
import sys
import time
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pneumolit.rundir import RunDir, read_json
from pneumolit.training.fit import fit
from tests.browsing import Browser, running_browser

pytestmark = pytest.mark.slow

SECONDS = 45.0  # until a busy machine has started a server, or drawn a tab; a browser is given 60 for an answer
FULL, PLAIN = "train/full", "train/plain"  # the two runs
# Everything that is seen of a page, in its shadow trees and frames as well.
SEEN = """
const seen = (root) => [...root.querySelectorAll("*")].flatMap((e) => {
  const box = e.getBoundingClientRect(), inner = e.shadowRoot || (e.tagName === "IFRAME" && e.contentDocument);
  return [...(box.width && box.height ? [e] : []), ...(inner ? seen(inner) : [])];
});
const words = (elements) => elements.filter((e) => !["STYLE", "SCRIPT"].includes(e.tagName)).flatMap(
  (e) => [...e.childNodes].filter((n) => n.nodeType === 3 && n.data.trim()).map((n) => n.data.trim()));
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with running_browser() as found:
        yield found


@pytest.fixture(scope="module")
def outputs(
    browser: Browser, tiny_config: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """Two runs of two epochs: one with everything, one of another kind without stress, test and projector."""
    out = tmp_path_factory.mktemp("outputs")
    for name, recipe in (
        (FULL, ["test=true", "logger.projector=true"]),
        (PLAIN, ["backbone=logistic", "data.stress=false", "seed=1"]),
    ):
        fit(tiny_config(*recipe, "logger.images_every=2", f"output_dir={out}"), out / name, Console(file=io.StringIO()))
    return out


@pytest.fixture(scope="module")
def address(outputs: Path) -> Iterator[str]:
    """Of a server that was told nothing but the folder, once it has read both runs."""
    program = shutil.which("tensorboard", path=str(Path(sys.executable).parent)) or shutil.which("tensorboard")
    assert program is not None, "no program tensorboard beside this Python"
    server = subprocess.Popen(
        [program, "--logdir", str(outputs), "--port", "0"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,  # it starts another process, which has to end with it
    )
    try:
        found = _announced_address(server)
        end = time.monotonic() + SECONDS
        while not _has_read_both(found):
            assert time.monotonic() < end, "TensorBoard does not find the runs"
            time.sleep(0.2)  # it reads in the background and tells nobody when it has
        yield found
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(server.pid, signal.SIGKILL)
        server.communicate()


def _announced_address(server: subprocess.Popen[bytes]) -> str:
    assert server.stderr is not None
    told, end = b"", time.monotonic() + SECONDS
    while not (match := re.search(rb"at (http://\S+/)", told)):
        ready, _, _ = select.select([server.stderr], [], [], max(0.0, end - time.monotonic()))
        assert ready, f"TensorBoard does not start: {told.decode()}"
        found = os.read(server.stderr.fileno(), 1 << 16)
        assert found, f"TensorBoard has ended: {told.decode()}"
        told += found
    return match[1].decode()


def _has_read_both(address: str) -> bool:
    """Whether all files of both runs are there: the last ones hold a row of HParams, and one the projector's films."""
    experiment = _fetched(f"{address}data/plugin/hparams/experiment", b'{"experimentName": ""}')
    columns = {column["name"]: column["differs"] for column in experiment.get("hparamInfos", [])}
    return bool(columns.get("backbone")) and _fetched(f"{address}data/plugins_listing")["projector"]["enabled"]


def _fetched(address: str, sent: bytes | None = None) -> Any:
    request = urllib.request.Request(address, sent, {"Content-Type": "application/json"} if sent else {})
    with urllib.request.urlopen(request, timeout=SECONDS) as answer:
        return json.load(answer)


def shown(browser: Browser, address: str, tab: str, ready: str, found: str, **settings: str) -> Any:
    """Open a tab, wait until it is ready and say what is found there; both are JavaScript about `all` that is seen."""
    hash_ = "&".join([tab, *(f"{key}={urllib.parse.quote(value)}" for key, value in settings.items())])
    page = browser.open(f"{address}#{hash_}", width=2000, height=1000)
    result = page.evaluate(
        f"""(async () => {{ {SEEN}
        const end = performance.now() + {1000 * SECONDS};
        for (;;) {{
          const all = seen(document), text = words(all);
          if ({ready}) return {{found: {found}}};
          if (performance.now() > end) return {{text}};
          await new Promise((done) => setTimeout(done, 100));
        }} }})()"""
    )
    assert "found" in result, f"the tab {tab} does not come to show its data, but: {result['text']}"
    refused = [r["response"]["url"] for r in page.events("Network.responseReceived") if r["response"]["status"] >= 400]
    assert not refused
    page.call("Page.navigate", url="about:blank")  # an open tab goes on asking and drawing
    return result["found"]


LINES = '(e) => e.matches("path.line") && e.getAttribute("d").includes("L")'  # drawn ones, of two points or more


def test_scalars_draw_both_runs(browser: Browser, address: str) -> None:
    lines = f"""["train/loss", "val/loss"].map((tag) =>
      all.filter((e) => e.tagName === "TF-SCALAR-CARD" && e.tag === tag)
        .flatMap((e) => seen(e.shadowRoot).filter({LINES})).length)"""
    text = shown(browser, address, "scalars", f"{lines}.every((n) => n >= 2)", "text", tagFilter="^(train|val)/loss")
    assert {"train/loss", "val/loss", f"{FULL}/tensorboard", f"{PLAIN}/tensorboard"} <= set(text)


def test_custom_scalars_lay_training_and_validation_over_one_another(browser: Browser, address: str) -> None:
    charts = f"""all.filter((e) => e.tagName === "TF-CUSTOM-SCALAR-MULTI-LINE-CHART-CARD").map((card) => {{
      const inside = seen(card.shadowRoot), text = words(inside);
      return [text[0], text.at(-1), inside.filter({LINES}).length];
    }})"""
    found = shown(
        browser, address, "custom_scalars", f"{charts}.filter(([, , lines]) => lines >= 2).length === 4", charts
    )
    # Curves of train, val and stress of the one run, of train and val of the other.
    expected = {"loss": 5, "AUROC": 3, "balanced accuracy": 3, "learning rate": 2}
    assert {title: matches for title, matches, _ in found} == {k: f"Matches ({n})" for k, n in expected.items()}


def test_every_picture_of_both_runs_is_drawn(browser: Browser, address: str) -> None:
    names = [
        "epochs/val_confusion", "epochs/val_errors", "final/val_confusion", "final/val_confusion_classes",
        "final/val_errors", "images/augmented_batch",
    ]  # fmt: skip
    drawn = """all.filter((e) => e.tagName === "TF-IMAGE-LOADER").flatMap((card) => seen(card.shadowRoot)
      .filter((e) => e.tagName === "IMG" && e.naturalWidth > 100).map(() => [card.run, card.tag]))"""
    wanted = {(f"{run}/tensorboard", name) for run in (FULL, PLAIN) for name in names}
    found = shown(browser, address, "images", f"{drawn}.length >= {len(wanted)}", drawn, tagFilter=".")
    assert {(run, tag) for run, tag in found} == wanted


def test_precision_and_recall_of_both_runs_are_curves_of_the_last_epoch(browser: Browser, address: str) -> None:
    lines = f"all.filter({LINES})"
    text, points = shown(
        browser,
        address,
        "pr_curves",
        f"{lines}.length >= 2",
        f'[text, {lines}.map((e) => e.getAttribute("d").split("L").length)]',
    )
    assert text.count("step 2") >= 2
    assert all(number > 10 for number in points)


def test_hparams_list_every_run_with_its_metrics_and_what_differs_first(
    browser: Browser, address: str, outputs: Path
) -> None:
    # What a cell shows lies in a slot of the grid's own table.
    rows = """(() => {
      const grid = all.find((e) => e.tagName === "VAADIN-GRID");
      const shown = (slot) => words(slot.assignedElements().flatMap((e) => [e, ...seen(e)])).join("");
      const text = (cell) => [...cell.querySelectorAll("slot")].map(shown).join("");
      const row = (line) => seen(line).filter((e) => e.matches("th, td")).map(text);
      return grid ? seen(grid.shadowRoot).filter((e) => e.tagName === "TR").map(row) : [];
    })()"""
    header, *lines = shown(browser, address, "hparams", f'{rows}.flat().includes("logistic")', rows)
    table = {line[0].removesuffix("/tensorboard"): dict(zip(header, line, strict=True)) for line in lines if line[0]}
    assert set(table) == {FULL, PLAIN}
    differing = ["backbone", "seed"]
    assert header[2:4] == differing
    assert [table[FULL][name] for name in differing] == ["test_resnet", "0.0000"]
    assert [table[PLAIN][name] for name in differing] == ["logistic", "1.0000"]
    for name, row in table.items():
        for split in ("val", "test"):
            metrics_file = RunDir(outputs / name).evaluation_metrics_file(split)
            metrics = read_json(metrics_file) if metrics_file.is_file() else None
            for title, value in (
                ("AUROC", metrics and metrics["ranking"]["auroc"]),
                ("accuracy", metrics and metrics["rules"]["primary"]["accuracy"]),
            ):
                cell = row[f"Result/{title}_{split}"]
                assert (float(cell) == pytest.approx(value, abs=1e-4)) if metrics else cell == ""


def test_projector_shows_the_films_of_the_run_that_was_asked(browser: Browser, address: str, outputs: Path) -> None:
    # The last thing that it says is how much of the features three axes hold.
    is_laid_out = "/Total variance described: [0-9.]+%/.test(text.join(' '))"
    text = shown(browser, address, "projector", is_laid_out, "text.join(' ')")
    assert f"Points: {len(RunDir(outputs / FULL).read_predictions('val'))} " in text
    assert "1 tensor found" in text
