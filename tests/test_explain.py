"""The command `explain`, from a finished run to its pages."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from pneumolit import explain
from pneumolit.entry import run_command
from pneumolit.rundir import RunDir

QUICK = ("num=2", "num_checked=4")
Explain = Callable[..., tuple[int, str, str]]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, cache_dir: Path
) -> Iterator[Explain]:
    """`command("key=value", ...)`: exit code, standard output with one space for every gap, and error."""
    monkeypatch.setenv("PNEUMOLIT_OUT", str(tmp_path / "out"))
    monkeypatch.setenv("PNEUMOLIT_CACHE", str(cache_dir))
    monkeypatch.setattr(sys, "argv", list(sys.argv))  # run_command replaces it

    def run(*arguments: str) -> tuple[int, str, str]:
        capsys.readouterr()
        code = 0
        try:
            run_command("explain", explain.explain, arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return code, " ".join(captured.out.split()), captured.err

    yield run


def hashes(folder: Path) -> dict[str, str]:
    files = (path for path in sorted(folder.rglob("*")) if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.fixture(scope="module")
def explained(small_run: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a run whose validation was explained; beside it, in `before`, what the run was."""
    from pneumolit.rundir import write_json

    out = tmp_path_factory.mktemp("explained")
    run = Path(shutil.copytree(small_run, out / "train" / "first"))
    shutil.copy(small_run.parents[1] / "test_looks.jsonl", out)
    write_json(out / "before.json", hashes(out / "train"))
    argv = list(sys.argv)
    try:
        run_command(
            "explain",
            explain.explain,
            [f"run_dir={run}", *QUICK, f"output_dir={out}", f"cache_dir={cache_dir}", f"hydra.run.dir={out}/explain"],
        )
    finally:
        sys.argv = argv
    return run


def test_a_run_gets_heat_maps_checks_and_a_page_and_keeps_all_it_had(explained: Path) -> None:
    left = {path.name for path in (explained / "explanation" / "val").iterdir()}
    assert {"explanation.html", "report.md", "checks.json", "films.csv", "surest_right.png"} <= left
    checks = json.loads((explained / "explanation" / "val" / "checks.json").read_text())
    assert checks["format_version"] == 1 and len(checks["words"]) >= 5
    assert all(checks[key] for key in ("randomization", "places", "removal", "masked"))
    assert checks["scores"]["max_difference"] < 1e-4
    before = json.loads((explained.parents[1] / "before.json").read_text())
    now = hashes(explained.parents[0])
    pages = {f"first/{name}" for name in ("report.html", "model_card.html", "model_card.md", "may_i_use.html")}
    assert {name for name, value in before.items() if now[name] != value} <= {*pages, "first/training.png"}
    assert not (explained.parents[1] / "explain").exists()


def test_the_page_of_the_run_shows_the_heat_maps_and_what_the_checks_found(explained: Path) -> None:
    page = (explained / "report.html").read_text()
    words = json.loads((explained / "explanation" / "val" / "checks.json").read_text())["words"]
    assert 'alt="heat maps: surest right"' in page and words[0].split(":")[0] in page


def test_films_are_chosen_by_the_stored_predictions(explained: Path) -> None:
    from pneumolit.scoring import read_calibration

    run = RunDir(explained)
    predictions, (calibration, _) = run.read_predictions("val"), read_calibration(run)
    assert calibration is not None
    probs = dict(zip(predictions.paths, calibration.probs(predictions.scores, 0.5), strict=True))
    films = list(csv.DictReader((explained / "explanation" / "val" / "films.csv").open()))
    assert films and all(float(film["prob"]) == pytest.approx(probs[film["path"]], rel=1e-5) for film in films)
    nearest = [film["path"] for film in films if film["group"] == "nearest_to_the_threshold"]
    assert nearest[0] == min(probs, key=lambda path: abs(probs[path] - 0.5))


def test_a_weight_that_was_changed_is_noticed(copied_run: Path, command: Explain) -> None:
    path = next((copied_run / "checkpoints").glob("best*.ckpt"))
    content = torch.load(path, weights_only=True)
    for name, value in content["state_dict"].items():
        if name.endswith("fc.bias"):
            value += torch.linspace(0.0, 1.0, len(value))
    torch.save(content, path)
    for other in (copied_run / "checkpoints").glob("*.ckpt"):
        shutil.copy(path, other) if other != path else None
    code, _, err = command(f"run_dir={copied_run}", "checks=false")
    assert code == 2 and "does not give the scores in predictions.csv" in err and err.count("\n") == 1
    assert not (copied_run / "explanation").exists()


def test_test_is_explained_after_its_evaluation_without_a_new_look(
    small_run: Path, tmp_path: Path, command: Explain, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pneumolit.explanation.methods import heat_of

    made: list[int] = []

    def counted(model: Any, images: np.ndarray, *rest: Any) -> np.ndarray:
        made.append(len(images))
        return heat_of(model, images, *rest)

    monkeypatch.setattr("pneumolit.explanation.run.heat_of", counted)
    run = Path(shutil.copytree(small_run, tmp_path / "out" / "train" / "first"))
    ledger = Path(shutil.copy(small_run.parents[1] / "test_looks.jsonl", tmp_path / "out"))
    before = ledger.read_bytes()
    code, out, err = command(f"run_dir={run}", "split=test", *QUICK)
    assert (code, err) == (0, "")
    checks = json.loads((run / "explanation" / "test" / "checks.json").read_text())
    assert checks["randomization"] and checks["places"] and checks["removal"] is None and checks["masked"] is None
    assert made == [checks["scores"]["num_images"]]  # a film that is shown and checked gets its heat once
    assert "that would be a further look" in out and ledger.read_bytes() == before


def test_test_is_not_shown_before_it_was_evaluated(other_run: Path, command: Explain) -> None:
    before = hashes(other_run)
    code, _, err = command(f"run_dir={other_run}", "split=test")
    assert code == 2 and "evaluate" in err and "that is a look" in err and err.count("\n") == 1
    assert hashes(other_run) == before


def test_a_run_whose_scores_depend_on_the_films_beside_is_not_explained(copied_run: Path, command: Explain) -> None:
    for path in (copied_run / "checkpoints").glob("*.ckpt"):
        content = torch.load(path, weights_only=True)
        content["hyper_parameters"]["hparams"]["batch_statistics"] = ["bn1"]
        torch.save(content, path)
    code, _, err = command(f"run_dir={copied_run}", "checks=false")
    assert code == 2 and "model.bn_inference=running to explain" in err and err.count("\n") == 1
    assert not (copied_run / "explanation").exists()


def test_an_ensemble_is_sent_to_its_members(copied_run: Path, command: Explain) -> None:
    RunDir(copied_run).ensemble_file.write_text("{}")
    code, _, err = command(f"run_dir={copied_run}")
    assert code == 2 and "is an ensemble of runs" in err and "give the folder of one of these runs" in err


@pytest.mark.slow
def test_masks_of_the_lungs_take_the_place_of_the_box(copied_run: Path, tmp_path: Path, command: Explain) -> None:
    mask = np.zeros((32, 32), dtype=np.uint8)
    mask[4:28, 4:14] = mask[4:28, 18:28] = 255
    for path in RunDir(copied_run).read_predictions("val").paths:
        file = (tmp_path / "masks, all" / str(path)).with_suffix(".png")
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(mask).save(file)
    code, out, err = command(f"run_dir={copied_run}", f"lung_masks={tmp_path / 'masks, all'}", *QUICK)
    assert (code, err) == (0, "")
    checks = json.loads((copied_run / "explanation" / "val" / "checks.json").read_text())
    assert checks["lungs"]["kind"] == "masks" and checks["masked"]["area"] == pytest.approx(480 / 1024, abs=0.01)
    assert "lung box" not in out and str(tmp_path) not in json.dumps(checks)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("split=tset",), "split must be one of .* got 'tset'; did you mean test?"),
        (("side=left",), "side must be one of predicted, pneumonia, normal, got 'left'"),
        (("num=0",), "num must be a whole number of at least 1, got 0"),
        (("checks=1",), "checks must be true or false, got 1"),
        *(
            ((f"lung_box={box}",), "lung_box must be [top, left, bottom, right]")
            for box in ("[0.5,0,0.2,1]", "[0.1,0.1,0.1,0.9]", "[0,0,1]", "[0,0,1,1.2]", "[0,0,1,big]", "0.5")
        ),
        (("lung_masks=/no/such",), "lung_masks=/no/such is not a folder"),
        (("method=lime",), "method must be one of auto, gradcam"),
        (("methd=lime",), "methd"),
        (("run_dir=/no/such",), "run_dir=/no/such is not a folder"),
        (("run_dir=",), "run_dir is empty"),
    ],
)
def test_mistakes_are_answered_in_one_line(
    small_run: Path, command: Explain, arguments: tuple[str, ...], message: str
) -> None:
    code, _, err = command(f"run_dir={small_run}", *arguments)
    start, _, end = message.partition(" .* ")
    assert code == 2 and start in err and end in err and "Traceback" not in err
    assert not (small_run / "explanation").exists()
