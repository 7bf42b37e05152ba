"""The command `train`: every kind of wrong input ends with one message and leaves nothing behind."""

from __future__ import annotations

import itertools
import os
import re
import shutil
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file

from pneumolit.rundir import read_json
from tests.processor_time import children_seconds, times_slower

Command = Callable[..., Any]
TINY = (
    "backbone=test_resnet", "model.pretrained=false", "model.image_size=32", "data.batch_size=16",
    "data.val_fraction=0.25", "trainer.max_epochs=2", "trainer.accelerator=cpu", "data.stress=false",
    "precision=float32", "logger=none",
)  # fmt: skip


@pytest.fixture
def phantoms(demo_root: Path, tmp_path: Path) -> Path:
    """A copy of the phantoms that a test may spoil."""
    return Path(shutil.copytree(demo_root, tmp_path / "phantoms"))


def refused(outcome: Any, *messages: str) -> None:
    assert outcome.code == 2
    for message in messages:
        assert re.search(message, outcome.err, re.S), outcome.err
    assert outcome.err.startswith("pneumolit: ")
    assert outcome.err.count("pneumolit: ") == 1
    assert "Traceback" not in outcome.err and "Error executing" not in outcome.err
    assert outcome.left == []


# Data.


def test_missing_data_root_is_refused(command: Command, tmp_path: Path) -> None:
    refused(command("train", f"data.root={tmp_path / 'gone'}", *TINY), r"data\.root=.*gone is not a folder.*data=demo")


def test_data_root_that_nobody_set_is_refused(command: Command) -> None:
    refused(command("train", *TINY), r"data\.root is not set.*PNEUMOLIT_DATA.*data=demo")


@pytest.mark.parametrize("source", ["chest_xray", "image_folder"])
def test_empty_data_root_is_refused(command: Command, tmp_path: Path, source: str) -> None:
    (tmp_path / "empty").mkdir()
    refused(command("train", f"data={source}", f"data.root={tmp_path / 'empty'}", *TINY), "found an empty folder")


def test_data_root_with_one_class_only_is_refused(command: Command, phantoms: Path) -> None:
    for normal in phantoms.glob("*/NORMAL"):
        shutil.rmtree(normal)
    refused(command("train", f"data.root={phantoms}", *TINY), r"lacks the class folder NORMAL; found PNEUMONIA")
    arguments = ("data=image_folder", "data.target=classes", f"data.root={phantoms}")
    refused(command("train", *arguments, *TINY), r"only one class was found: \['PNEUMONIA'\]")


def test_empty_class_folder_is_refused_and_named(command: Command, phantoms: Path) -> None:
    for film in (phantoms / "train" / "NORMAL").iterdir():
        film.unlink()
    refused(command("train", f"data.root={phantoms}", *TINY), r"class folder .*train/NORMAL holds no JPEG or PNG")


def test_split_that_cannot_hold_every_class_is_refused_with_its_counts(command: Command, demo_root: Path) -> None:
    outcome = command("train", f"data.root={demo_root}", *TINY, "data.val_fraction=0.001")
    refused(outcome, r"the val split holds no image of NORMAL.*NORMAL: 0.*larger data\.val_fraction")


def test_test_score_of_a_set_without_test_split_is_refused_before_training(command: Command, phantoms: Path) -> None:
    shutil.rmtree(phantoms / "test")
    refused(command("train", f"data.root={phantoms}", *TINY, "test=true"), r"test=true, but .* no test split")


def test_names_without_a_cause_are_refused_when_causes_are_asked_for(command: Command, tmp_path: Path) -> None:
    for name in ("NORMAL", "PNEUMONIA"):
        (tmp_path / "set" / name).mkdir(parents=True)
        for i in range(3):
            Image.new("L", (40, 40), 9 * i).save(tmp_path / "set" / name / f"film{i}.png")
    outcome = command("train", "data=image_folder", f"data.root={tmp_path / 'set'}", *TINY, "data.target=cause")
    refused(outcome, r"data\.target=cause, but 3 pneumonia images do not tell bacteria from virus.*data\.target=binary")


def png_that_claims(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_unreadable_truncated_and_absurdly_large_images_are_all_listed_at_once(
    command: Command, phantoms: Path
) -> None:
    films = sorted((phantoms / "train" / "PNEUMONIA").iterdir())
    films[0].write_bytes(b"this is no image")
    films[1].write_bytes(films[1].read_bytes()[:400])
    films[2].write_bytes(b"")
    huge = films[3].with_suffix(".png")
    films[3].unlink()
    huge.write_bytes(png_that_claims(30_000, 30_000))
    outcome = command("train", f"data.root={phantoms}", *TINY)
    refused(outcome, r"4 of \d+ image files cannot be read", r"data\.on_bad_image=skip", "megapixels")
    for film in (*films[:3], huge):
        assert film.name in outcome.err


def test_unreadable_images_are_left_out_and_recorded_when_that_is_asked_for(command: Command, phantoms: Path) -> None:
    film = sorted((phantoms / "train" / "PNEUMONIA").iterdir())[0]
    film.write_bytes(b"this is no image")
    outcome = command("train", f"data.root={phantoms}", *TINY, "data.on_bad_image=skip", "trainer.max_epochs=1")
    assert outcome.code == 0, outcome.err
    run = next(p.parent for p in outcome.left if p.name == "status.json")
    assert list(read_json(run / "data.json")["unreadable"]) == [f"train/PNEUMONIA/{film.name}"]
    assert f"train/PNEUMONIA/{film.name},unreadable," in (run / "split.csv").read_text()


def test_cache_folder_that_cannot_be_one_is_refused_by_its_key(command: Command, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    outcome = command("train", "data=demo", f"cache_dir={tmp_path / 'file'}", *TINY)
    refused(outcome, rf"cache_dir={tmp_path / 'file'} cannot be used: .*; give another folder$")


# Names and values.


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("backbone=desnet121", r"backbone=desnet121 is no model that timm knows; did you mean .*densenet121"),
        ("backbone=resnet18.a9_in1k", r"no weights tagged 'a9_in1k'"),
        ("backbone=hf-hub:x", r"looks like an address"),
        ("optim._target_=os.system", r"optim\._target_=os\.system is refused"),
        ("+optim.momentum=0.9", r"optim\.momentum is no argument of torch\.optim\.AdamW"),
        ("+optim.betas=[0.9]", r"torch\.optim\.AdamW does not accept optim=.*'betas': \(0\.9,\)"),
        ("freeze.policy=hed", r"freeze\.policy must be one of none, head, groups, .*, got 'hed'"),
        ("loss.name=focl", r"loss\.name must be one of cross_entropy, .*, got 'focl'"),
        ("scheduler.name=stp", r"scheduler\.name must be one of constant, cosine, .*, got 'stp'"),
        ("+freeze.last=3", r"freeze\.last does nothing: freeze\.policy=none takes no further key"),
        ("resume=no", r"resume must be true or false, got 'no'"),
        ("run_dir=", r"run_dir is empty"),
        ("+loss.gamma=2", r"loss\.gamma is no key of loss=cross_entropy"),
        ("+scheduler.gamma=2", r"scheduler\.gamma is no key of scheduler=cosine"),
        ("model.head=deep", r"model\.head must be one of linear, mlp, got 'deep'"),
        ("stages=[{freeze:hed}]", r"freeze=hed is no option; did you mean head"),
        ("stages=[{freeze:{policy:groups}}]", r"freeze\.policy=groups needs freeze\.last|freeze\.last"),
        ("stages=[{},{image_size:512}]", r"stage 2: model\.image_size=512 is larger than data\.store_size"),
        ("stages=[{epoch:3}]", r"stage 1: epoch is no key that does anything; did you mean epochs"),
        ("+augment.rotate=3", r"augment\.rotate is no key that does anything; the keys are .*rotate_degrees"),
        ("augment.hflip=2", r"augment\.hflip"),
        ("augment.noise_prob=0.5", r"augment\.noise_prob=0\.5 has no effect while augment\.noise_std is \[0, 0\]"),
        ("trainer.accelerator=tpu", r"trainer\.accelerator must be one of auto, cpu, gpu, mps, got 'tpu'"),
        ("+trainer.max_epoch=3", r"trainer\.max_epoch is no key .* did you mean trainer\.max_epochs"),
        ("callbacks.checkpoint.monitor=val/auc", r"monitor=val/auc is logged by nobody; did you mean val/auroc"),
        ("data.val_fraction=1.5", r"data\.val_fraction must be strictly between 0 and 1 .* got 1\.5"),
        ("data.resplit=[0.5,0.5,0.5]", r"data\.resplit must be .* sum to 1, got \[0\.5, 0\.5, 0\.5\]"),
        ("data.holdout_fraction=1", r"data\.holdout_fraction must be .* got 1"),
        ("loss.class_weight=[1,2]", r"loss\.class_weight must be none, balanced or 3 positive numbers"),
        ("data.split_file=/gone.csv", r"/gone\.csv is not a file"),
        ("data.positive=[SICK]", r"data\.positive names \['SICK'\].*choose from"),
    ],
)
def test_wrong_name_or_value_is_refused_and_named(
    command: Command, demo_root: Path, override: str, message: str
) -> None:
    needed = {
        "loss.class_weight": ("data.balance=none",),
        "data.split_file": ("data.val_fraction=0.1",),
        "augment.noise_prob": ("augment=none",),
    }
    extra = needed.get(override.partition("=")[0], ())
    refused(command("train", f"data.root={demo_root}", *TINY, *extra, override), message)


def test_image_size_that_the_backbone_cannot_take_is_refused_before_a_folder_is_made(
    command: Command, demo_root: Path
) -> None:
    arguments = ("backbone=test_vit", "model.image_size=40")
    outcome = command("train", f"data.root={demo_root}", *TINY, *arguments)
    refused(outcome, r"backbone=test_vit\S* cannot be built for model\.image_size=40")


# Weights.


def test_missing_foreign_and_unsafe_weights_are_refused(command: Command, demo_root: Path, tmp_path: Path) -> None:
    arguments = (f"data.root={demo_root}", *TINY, "model.pretrained=true")
    save_file({"encoder.w": torch.ones(3)}, tmp_path / "foreign.safetensors")
    (tmp_path / "text.pth").write_text("no weights")
    for name, message in (
        ("gone.pth", r"model\.weights=.*gone\.pth is not a file"),
        ("foreign.safetensors", r"foreign\.safetensors do not fit test_resnet.*model\.pretrained=false"),
        ("text.pth", r"text\.pth is not a weights file that can be read safely"),
    ):
        refused(command("train", *arguments, f"model.weights={tmp_path / name}"), message)


def test_weights_that_cannot_be_downloaded_are_refused_with_the_ways_out(
    command: Command, demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    for name in ("https_proxy", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    start = time.monotonic()
    outcome = command("train", f"data.root={demo_root}", *TINY, "model.pretrained=true")
    refused(outcome, r"hub cannot be reached.*model\.weights=FILE.*model\.pretrained=false")
    assert time.monotonic() - start < 60  # a download that is waited for takes minutes


# Training.


def test_loss_that_turns_nan_names_epoch_and_step_and_keeps_the_last_whole_epoch(
    command: Command, demo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pneumolit.model.loss import CrossEntropy

    whole, calls = CrossEntropy.forward, itertools.count()

    def overflow(self: CrossEntropy, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return whole(self, logits, targets) * (float("nan") if next(calls) else 1.0)

    monkeypatch.setattr(CrossEntropy, "forward", overflow)
    outcome = command("train", f"data.root={demo_root}", *TINY, "trainer.limit_train_batches=1")
    assert outcome.code == 2
    assert re.search(r"pneumolit: the loss became nan in epoch 2, step 1 .*lower optim\.lr", outcome.err, re.S)
    assert "Traceback" not in outcome.err
    run = next(p.parent for p in outcome.left if p.name == "status.json")
    status = read_json(run / "status.json")
    assert status["state"] == "failed" and "epoch 2" in status["reason"]
    assert torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["epoch"] == 0
    assert not (run / "evaluation").exists() and not (run / "report.html").exists()


def test_weights_that_overflow_in_the_last_step_of_an_epoch_reach_no_checkpoint(
    command: Command, demo_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pneumolit.model.classifier import PneumoniaClassifier

    whole = PneumoniaClassifier.logits_of
    monkeypatch.setattr(PneumoniaClassifier, "logits_of", lambda self, batch: whole(self, batch) * float("nan"))
    outcome = command("train", f"data.root={demo_root}", *TINY)
    assert outcome.code == 2 and "the logits of val are no numbers after epoch 1; lower optim.lr" in outcome.err
    assert "the loss became" not in outcome.err
    assert [p for p in outcome.left if p.suffix == ".ckpt"] == []


def test_a_folder_that_holds_a_run_takes_no_second_one(command: Command, demo_root: Path, tmp_path: Path) -> None:
    place = f"hydra.run.dir={tmp_path / 'mine'}"
    assert command("train", f"data.root={demo_root}", *TINY, "trainer.max_epochs=1", place).code == 0
    before = (tmp_path / "mine" / "metrics.csv").read_text()
    outcome = command("train", f"data.root={demo_root}", *TINY, place)
    assert outcome.code == 2 and "already holds a run" in outcome.err
    assert (tmp_path / "mine" / "metrics.csv").read_text() == before


def test_finished_run_prints_table_page_and_next_command_and_no_warning(
    command: Command, demo_root: Path, recwarn: pytest.WarningsRecorder
) -> None:
    outcome = command("train", f"data.root={demo_root}", *TINY, "trainer.max_epochs=1", "freeze=head")
    assert outcome.code == 0, outcome.err
    for part in ("NORMAL", "AUROC", "report.html", "split=test", "not a medical device"):
        assert part in outcome.out
    assert [str(w.message) for w in recwarn if issubclass(w.category, UserWarning)] == []
    run = next(p.parent for p in outcome.left if p.name == "status.json")
    assert yaml.safe_load((run / "config.yaml").read_text())["trainer"]["max_epochs"] == 1
    assert read_json(run / "status.json")["state"] == "done"


def test_data_root_with_signs_of_the_override_grammar_works(command: Command, demo_root: Path, tmp_path: Path) -> None:
    odd = shutil.copytree(demo_root, tmp_path / "set, a=b [1] {x} 'y' (é)")
    outcome = command("train", f"data.root={odd}", *TINY, "trainer.max_epochs=1")
    assert outcome.code == 0, outcome.err


@pytest.mark.parametrize(
    ("argument", "message"),
    [("data.root=gone", r"data\.root=gone is not a folder"), ("optim.lrr=1", r"unknown key optim\.lrr.*optim\.lr")],
)
def test_real_process_from_another_folder_ends_in_time_without_traceback_or_folder(
    tmp_path: Path, argument: str, message: str
) -> None:
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PNEUMOLIT_")}
    root = str(Path(__file__).resolve().parents[1])
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (root, environment.get("PYTHONPATH"))))
    before = children_seconds()
    done = subprocess.run(
        [sys.executable, "-m", "pneumolit.train", argument],
        cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    seconds = children_seconds() - before
    assert seconds < 15 * times_slower()
    assert done.returncode == 2
    assert re.search(message, done.stderr, re.S)
    assert "Traceback" not in done.stderr
    assert [p for p in tmp_path.rglob("*") if p.name != "outputs"] == []
