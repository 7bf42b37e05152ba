"""The command `export`: what leaves a run folder says what the run says, runs nowhere, and needs nothing of it."""

from __future__ import annotations

import io
import json
import pickle
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import replace
from math import nan
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from safetensors.numpy import load_file, save_file
from scipy.special import expit

import pneumolit
from pneumolit.data.reader import read_gray
from pneumolit.exporting.graph import resize_matrix
from pneumolit.rundir import RunDir
from pneumolit.training.fit import fit

ONNX = pytest.importorskip("onnxruntime", reason="extra export")


@pytest.fixture(scope="module")
def exported(small_run: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bundle with its ONNX file, of a run with three classes."""
    return export_run(small_run, tmp_path_factory.mktemp("exported") / "bundle", cache_dir)


def export_run(run: Path, target: Path, cache_dir: Path, *, onnx: bool = True) -> Path:
    from pneumolit.exporting.run import export_model

    own = Path(shutil.copytree(run, target.parent / "run"))
    cfg = {"run_dir": str(own), "onnx": onnx, "data": {"root": None}, "cache_dir": str(cache_dir)}
    export_model(cfg, target, Console(quiet=True))
    shutil.rmtree(own)
    return target


def evaluated(run: Path, demo_root: Path, split: str) -> tuple[list[str], Any]:
    """Paths and predictions of a split of the phantoms."""
    found = RunDir(run).read_predictions(split)
    return [str(demo_root / path) for path in found.paths], found


@pytest.mark.parametrize("split", ["val", "test"])
def test_a_bundle_says_of_a_whole_split_what_the_evaluation_says(
    exported: Path, small_run: Path, demo_root: Path, split: str
) -> None:
    paths, expected = evaluated(small_run, demo_root, split)
    found = pneumolit.load(exported).predict(paths)
    for k, name in enumerate(expected.labels.classes):
        np.testing.assert_allclose([p.probs[name] for p in found], expected.probs[:, k], atol=1e-4)
    np.testing.assert_allclose([p.score or 0 for p in found], expected.scores, atol=1e-4)


def onnx_says(bundle: Path, paths: list[str]) -> tuple[np.ndarray, np.ndarray]:
    session = ONNX.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    side = session.get_inputs()[0].shape[2]
    films = [Image.open(p).convert("L").resize((side, side), Image.Resampling.BILINEAR) for p in paths]
    classes, chance = session.run(None, {"image": np.stack([np.asarray(film) for film in films])[:, None]})
    return classes, chance


@pytest.mark.parametrize("split", ["val", "test"])
def test_the_onnx_file_says_of_a_whole_split_what_the_evaluation_says(
    exported: Path, small_run: Path, demo_root: Path, split: str
) -> None:
    from pneumolit.scoring import read_calibration

    paths, expected = evaluated(small_run, demo_root, split)
    classes, chance = onnx_says(exported, paths)
    np.testing.assert_allclose(classes, expected.probs, atol=1e-4)
    calibration, _ = read_calibration(RunDir(small_run))
    assert calibration is not None
    np.testing.assert_allclose(chance, calibration.probs(expected.scores, 0.5), atol=1e-4)


VIT = ("backbone=test_vit", "model.image_size=32", "model.in_chans=3", "trainer.max_epochs=1", "data.stress=false")


@pytest.fixture(scope="module")
def vit_run(tiny_config: Callable[..., dict[str, Any]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A vision transformer of three channels."""
    out = tmp_path_factory.mktemp("vit")
    fit(
        tiny_config(*VIT, f"output_dir={out}"),
        out / "train" / "vit",
        Console(file=io.StringIO()),
    )
    return out / "train" / "vit"


def test_a_vision_transformer_is_exported_as_well(
    vit_run: Path, demo_root: Path, cache_dir: Path, tmp_path: Path
) -> None:
    bundle = export_run(vit_run, tmp_path / "bundle", cache_dir)
    paths, expected = evaluated(vit_run, demo_root, "val")
    np.testing.assert_allclose(onnx_says(bundle, paths)[0], expected.probs, atol=1e-4)
    found = pneumolit.load(bundle).predict(paths)
    np.testing.assert_allclose([p.probs["BACTERIA"] for p in found], expected.probs[:, 1], atol=1e-4)


@pytest.fixture(scope="module")
def ensemble(small_run: Path, vit_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pneumolit.comparison.ensemble import build_ensemble, read_members
    from pneumolit.comparison.ensemble_folder import save_ensemble

    out = tmp_path_factory.mktemp("ensemble")
    runs = []
    for source in (small_run, vit_run):
        runs.append(RunDir(Path(shutil.copytree(source, out / "train" / source.name))))
    built = build_ensemble(read_members(runs, ["cnn", "vit"]), "mean")
    save_ensemble(built, RunDir(out / "ensembles" / "both"))
    return out / "ensembles" / "both"


def test_an_ensemble_predicts_and_is_exported_as_one_model(
    ensemble: Path, demo_root: Path, cache_dir: Path, tmp_path: Path
) -> None:
    from pneumolit.exporting.run import export_model

    expected = RunDir(ensemble).read_predictions("val")
    paths = [str(demo_root / path) for path in expected.paths]
    for place in (ensemble, tmp_path / "bundle"):
        found = pneumolit.load(place).predict(paths) if place.exists() else []
        if not found:
            cfg = {"run_dir": str(ensemble), "onnx": True, "data": {"root": None}, "cache_dir": str(cache_dir)}
            export_model(cfg, place, Console(quiet=True))
            shutil.rmtree(ensemble.parents[1] / "train")  # a bundle needs no member
            found = pneumolit.load(place).predict(paths)
        np.testing.assert_allclose([p.score or 0 for p in found], expected.scores, atol=2e-4)
        assert {name for p in found for name in p.probs} == set(expected.labels.classes)
    chance = onnx_says(tmp_path / "bundle", paths)[1]
    np.testing.assert_allclose(chance, [p.probability or 0 for p in found], atol=1e-4)


def test_an_ensemble_that_kept_one_member_says_what_its_own_calibration_makes_of_that_member(
    small_run: Path, vit_run: Path, demo_root: Path, cache_dir: Path, tmp_path: Path
) -> None:
    from pneumolit.comparison.ensemble import build_ensemble, read_members
    from pneumolit.comparison.ensemble_folder import save_ensemble
    from pneumolit.exporting.run import export_model
    from pneumolit.prediction.opening import open_scorer

    runs = [RunDir(Path(shutil.copytree(source, tmp_path / "train" / source.name))) for source in (small_run, vit_run)]
    built = build_ensemble(read_members(runs, ["cnn", "vit"]), "mean")
    calibration = replace(built.calibration, slope=0.5, intercept=0.25)  # such as another member's would be
    one = replace(built, members=built.members[:1], weights=np.ones(1), calibration=calibration)
    folder = tmp_path / "ensembles" / "one"
    save_ensemble(one, RunDir(folder))
    paths, _ = evaluated(small_run, demo_root, "val")
    alone, scorer = open_scorer(small_run), open_scorer(folder)
    images = {alone.sides[0]: np.stack([read_gray(Path(path), alone.sides[0]) for path in paths])}
    expected = calibration.log_odds(alone.score(images).log_odds, 0.5)
    np.testing.assert_allclose(scorer.score(images).log_odds, expected, atol=1e-5)
    assert set(pneumolit.load(folder).predict(paths)[0].probs) == set(built.labels.classes)
    bundle = tmp_path / "bundle"
    cfg = {"run_dir": str(folder), "onnx": True, "data": {"root": None}, "cache_dir": str(cache_dir)}
    export_model(cfg, bundle, Console(quiet=True))
    np.testing.assert_allclose(open_scorer(bundle).score(images).log_odds, expected, atol=1e-5)
    np.testing.assert_allclose(onnx_says(bundle, paths)[1], expit(expected), atol=1e-4)
    told = json.loads((bundle / "bundle.json").read_text())
    (bundle / "bundle.json").write_text(json.dumps({**told, "combines": None}))
    with pytest.raises(ValueError, match=r"does not say how its models are combined .*; export the ensemble again"):
        open_scorer(bundle)


def test_the_example_beside_the_onnx_file_needs_no_pneumolit(
    exported: Path, small_run: Path, demo_root: Path, tmp_path: Path
) -> None:
    text = (exported / "example_onnx.py").read_text()
    assert "pneumolit" not in text.replace("pneumonia", "") and len(text.splitlines()) <= 30
    paths, _ = evaluated(small_run, demo_root, "val")
    line = [sys.executable, str(exported / "example_onnx.py"), paths[0]]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=True)
    chance = pneumolit.load(exported).predict(paths[0])[0].probability
    assert float(done.stdout.split()[1]) == pytest.approx(chance, abs=2e-4)
    (tmp_path / "cut.jpeg").write_bytes(Path(paths[0]).read_bytes()[:300])
    done = subprocess.run([*line[:2], "cut.jpeg", paths[0]], capture_output=True, text=True, cwd=tmp_path, check=True)
    assert "cut.jpeg cannot be read" in done.stdout and done.stdout.splitlines()[1].startswith(paths[0])
    gray = read_gray(Path(paths[0]))
    Image.fromarray(gray.astype(np.uint16) * 257).save(tmp_path / "deep.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter to the right makes it upright
    Image.fromarray(np.rot90(gray)).save(tmp_path / "turned.png", exif=exif)
    line[2:] = ["deep.png", "turned.png"]
    done = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=True)
    deep, turned = done.stdout.splitlines()
    assert deep == "deep.png cannot be read: more than 8 bits a pixel; store it with 8"
    assert float(turned.split()[1]) == pytest.approx(chance, abs=2e-4)
    alone = subprocess.run(line[:2], capture_output=True, text=True, check=False)
    assert alone.returncode == 1 and "python example_onnx.py FILMS" in alone.stderr


def test_an_export_without_the_onnx_file_says_that_the_earlier_one_is_gone(
    command: Callable[..., Any], exported: Path, tmp_path: Path
) -> None:
    again = Path(shutil.copytree(exported, tmp_path / "again"))
    done = command("export", f"run_dir={exported}", f"output={again}")
    assert done.code == 0 and "The ONNX file of an earlier export was removed" in done.out, done.out + done.err
    assert not (again / "model.onnx").exists()


def test_an_export_over_another_model_s_leaves_nothing_of_that_one(
    small_run: Path, exported: Path, cache_dir: Path, tmp_path: Path
) -> None:
    folder = Path(shutil.copytree(exported, tmp_path / "bundle"))
    for name in ("model_01.safetensors", "model_02.safetensors"):  # of an ensemble that was exported here
        (folder / name).write_bytes(b"of another model")
    (folder / "model_notes.txt").write_text("somebody's own")
    for name in ("model_card.md", "may_i_use.html"):
        (folder / name).write_text("of another model")
    own = Path(shutil.copytree(small_run, tmp_path / "ensemble"))
    for name in ("model_card.md", "model_card.html", "may_i_use.html"):
        (own / name).unlink(missing_ok=True)  # an ensemble has none
    export_run(own, folder, cache_dir, onnx=False)
    left = {path.name for path in folder.iterdir()}
    assert {"bundle.json", "model.safetensors", "model_notes.txt"} <= left
    assert not left & {"model_01.safetensors", "model_02.safetensors", "model_card.md", "may_i_use.html", "model.onnx"}


def test_a_bundle_holds_no_path_no_patient_and_no_pickle(exported: Path, demo_root: Path) -> None:
    places = [str(demo_root.parent), str(Path(pneumolit.__file__).parent), str(Path(np.__file__).parents[1])]
    assert "model.onnx" in {file.name for file in exported.iterdir()}
    for file in exported.iterdir():
        data = file.read_bytes()
        assert not [place for place in places if place.encode() in data], file.name
        assert not re.search(rb"person\d+_|IM-\d{4}", data), file.name
        assert file.suffix in (".json", ".safetensors", ".md", ".html", ".onnx", ".py")
        assert not data.startswith(b"PK") and (file.suffix == ".safetensors" or not data.startswith(b"\x80"))


def test_an_onnx_file_that_says_something_else_is_not_kept(
    exported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import onnx
    import onnx_ir

    from pneumolit.exporting import onnx_file
    from pneumolit.prediction.bundle import open_bundle

    file = exported / "model.onnx"
    program = SimpleNamespace(model=onnx_ir.load(file), model_proto=onnx.load(file))
    monkeypatch.setattr("torch.onnx.export", lambda *arguments, **more: program)  # which takes its time
    for difference, is_kept in ((0.5 * onnx_file.TOLERANCE, True), (1.1 * onnx_file.TOLERANCE, False), (nan, False)):
        monkeypatch.setattr(onnx_file, "_difference", lambda *arguments, off=difference: off)
        target = tmp_path / f"{difference}" / "model.onnx"
        with nullcontext() if is_kept else pytest.raises(ValueError, match=r"off by .* it is not kept"):
            onnx_file.write_onnx(open_bundle(exported), target)
        assert [path.name for path in target.parent.iterdir()] == ["model.onnx"] * is_kept


def test_a_bundle_that_says_something_else_than_the_model_is_not_kept(
    small_run: Path, cache_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pneumolit.exporting import run
    from pneumolit.prediction.bundle import open_bundle

    def other(folder: Path) -> Any:
        scorer = open_bundle(folder)
        *_, bias = scorer.models[0].model.parameters()
        bias.data[0] += 1e-4  # of a logit
        return scorer

    monkeypatch.setattr(run, "open_bundle", other)
    with pytest.raises(ValueError, match=r"does not say what the model says .* it is not kept"):
        export_run(small_run, tmp_path / "bundle", cache_dir, onnx=False)
    assert not (tmp_path / "bundle" / "bundle.json").exists()


@pytest.mark.parametrize("side", [(64, 32), (224, 128), (50, 50), (48, 64)])
def test_the_resizing_of_the_graph_is_that_of_evaluation(side: tuple[int, int]) -> None:
    import torch

    from pneumolit.data.augment import resize_batch

    films = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (2, 1, side[0], side[0])).astype(np.uint8))
    matrix = resize_matrix(*side)
    found = matrix @ films.float() @ matrix.T / 255
    np.testing.assert_allclose(found.numpy(), resize_batch(films, side[1]).numpy(), atol=2e-6)


# Damaged, changed or hostile bundles


def changed(bundle: Path, target: Path, **values: Any) -> Path:
    own = Path(shutil.copytree(bundle, target))
    content = json.loads((own / "bundle.json").read_text())
    content.update(values)
    (own / "bundle.json").write_text(json.dumps(content))
    return own


class Evil:
    def __reduce__(self) -> Any:
        return (Path.write_text, (Path("evil_was_here"), "x"))


def test_weights_that_were_exchanged_are_refused_whatever_they_are(exported: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(exported, tmp_path / "b"))
    for data in (pickle.dumps(Evil()), (own / "model.safetensors").read_bytes()[:-8] + bytes(8)):
        (own / "model.safetensors").write_bytes(data)
        with pytest.raises(ValueError, match=r"is not the file that bundle\.json names"):
            pneumolit.load(own)
    assert not Path("evil_was_here").exists()


def test_a_pickle_with_its_own_hash_is_not_run_either(exported: Path, tmp_path: Path, monkeypatch: Any) -> None:
    import hashlib

    monkeypatch.chdir(tmp_path)
    data = pickle.dumps(Evil())
    content = json.loads((exported / "bundle.json").read_text())
    content["models"][0]["sha256"] = hashlib.sha256(data).hexdigest()
    own = changed(exported, tmp_path / "b", models=content["models"])
    (own / "model.safetensors").write_bytes(data)
    with pytest.raises(ValueError, match="model.safetensors is damaged".replace(".", r"\.")):
        pneumolit.load(own)
    assert not (tmp_path / "evil_was_here").exists()


def test_a_bundle_that_names_files_outside_of_it_is_refused(exported: Path, tmp_path: Path) -> None:
    content = json.loads((exported / "bundle.json").read_text())
    for name in ("../model.safetensors", "/etc/passwd", ".hidden"):
        content["models"][0]["weights"] = name
        own = changed(exported, tmp_path / name.replace("/", "_"), models=content["models"])
        with pytest.raises(ValueError, match="names weights outside of its folder"):
            pneumolit.load(own)


def test_a_bundle_that_names_an_address_as_its_backbone_is_refused(exported: Path, tmp_path: Path) -> None:
    content = json.loads((exported / "bundle.json").read_text())
    content["models"][0]["settings"]["backbone"] = "hf-hub:someone/something"
    with pytest.raises(ValueError, match="looks like an address"):
        pneumolit.load(changed(exported, tmp_path / "b", models=content["models"]))


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"format": "zip"}, "is no bundle of pneumolit"),
        ({"format_version": 99}, "format version 99, this pneumolit reads 1"),
        ({"models": [{}]}, "is damaged"),
        ({"models": "x"}, "is damaged"),
        ({"calibration": {"slope": -1, "intercept": 0, "prevalence": 0.5}}, "slope of a calibration must be above 0"),
        ({"operating_points": [{"name": 1}]}, "is damaged"),
    ],
)
def test_a_damaged_record_is_named(exported: Path, tmp_path: Path, values: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        pneumolit.load(changed(exported, tmp_path / "b", **values))


def test_a_bundle_in_which_no_model_has_a_weight_is_refused(exported: Path, tmp_path: Path) -> None:
    content = json.loads((exported / "bundle.json").read_text())
    content["models"][0]["weight"] = 0
    with pytest.raises(ValueError, match="no model has a weight"):
        pneumolit.load(changed(exported, tmp_path / "b", models=content["models"]))


def test_weights_of_another_shape_are_named(exported: Path, tmp_path: Path) -> None:
    import hashlib

    own = Path(shutil.copytree(exported, tmp_path / "b"))
    state = load_file(own / "model.safetensors")
    first = next(name for name, values in state.items() if values.ndim)
    save_file({**state, first: state[first][:1].copy()}, own / "model.safetensors")
    content = json.loads((own / "bundle.json").read_text())
    content["models"][0]["sha256"] = hashlib.sha256((own / "model.safetensors").read_bytes()).hexdigest()
    (own / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match="does not fit test_resnet"):
        pneumolit.load(own)


def test_a_file_that_is_gone_is_named(exported: Path, tmp_path: Path) -> None:
    own = Path(shutil.copytree(exported, tmp_path / "b"))
    (own / "model.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="the bundle is not whole"):
        pneumolit.load(own)


# The command


def test_the_command_writes_into_the_run_folder_and_says_what_comes_next(
    command: Callable[..., Any], copied_run: Path
) -> None:
    done = command("export", f"run_dir={copied_run}")
    assert done.code == 0, done.err
    assert "python -m pneumolit.predict run_dir=" in done.out
    assert {"bundle.json", "model.safetensors", "reference.json"} <= {p.name for p in (copied_run / "export").iterdir()}
    again = command("export", f"run_dir={copied_run}/export", f"output={copied_run.parent}/second")
    assert again.code == 0, again.err
    first, second = (
        json.loads((place / "bundle.json").read_text())
        for place in (copied_run / "export", copied_run.parent / "second")
    )
    assert first["models"] == second["models"] and first["identity"] == second["identity"]


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ((), "run_dir is missing"),
        (("run_dir=nowhere",), "run_dir=nowhere is not a folder"),
        (("run_dir=RUN", "output=FULL"), "holds something else than a bundle"),
        (("run_dir=RUN", "output=RUN"), "is the folder that is exported"),
        (("run_dir=RUN", "onnx=yes_please"), "onnx must be true or false"),
    ],
)
def test_a_mistake_is_answered_in_one_line(
    command: Callable[..., Any], copied_run: Path, tmp_path: Path, given: tuple[str, ...], words: str
) -> None:
    full = tmp_path / "full"
    full.mkdir()
    (full / "thesis.txt").write_text("x")
    done = command("export", *(text.replace("RUN", str(copied_run)).replace("FULL", str(full)) for text in given))
    assert done.code == 2 and words in done.err and done.err.count("\n") == 1, done.err
    assert [p.name for p in full.iterdir()] == ["thesis.txt"] and not (copied_run / "export").exists()
