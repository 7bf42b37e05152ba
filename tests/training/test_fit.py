"""A finished run: every file of the design, one look at most, the same numbers from the same seed."""

from __future__ import annotations

import io
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from rich.console import Console

from pneumolit.config import flatten
from pneumolit.data.dataset import load_data
from pneumolit.data.store import cache_folder
from pneumolit.interrupts import RunPrunedError
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.gradients import use_fast_gradients
from pneumolit.rundir import RunDir, read_json, read_looks
from pneumolit.training.environment import source_hash
from pneumolit.training.fit import fit

Configure = Callable[..., dict[str, Any]]

BEFORE = ("config.yaml", "environment.json", "status.json", "split.csv", "freeze_plan.json", "data.json")
PAGES = ("report.html", "model_card.html", "model_card.md", "may_i_use.html")
AFTER = ("metrics.csv", "calibration.json", *PAGES, "checkpoints/best.ckpt", "checkpoints/last.ckpt")
PICTURES = (
    "roc.png",
    "pr.png",
    "confusion.png",
    "confusion_classes.png",
    "reliability.png",
    "scores.png",
    "errors.png",
)
EVALUATION = ("predictions.csv", "metrics.json", "report.md", *PICTURES)


def test_sheet_of_errors_is_saved_pixel_by_pixel_as_it_was_composed(small_run: Path) -> None:
    # Enlarged to the resolution of the other pictures, some rows and columns of its films would stand there twice.
    for split in ("val", "test"):
        with Image.open(small_run / "evaluation" / split / "errors.png") as picture:
            assert picture.width in {1068, 1326}  # three pairs or four films in a row


def test_run_folder_holds_every_file_of_the_design_and_nothing_temporary(small_run: Path) -> None:
    expected = {*BEFORE, *AFTER, "training.png"} | {f"evaluation/{s}/{f}" for s in ("val", "test") for f in EVALUATION}
    found = {p.relative_to(small_run).as_posix() for p in small_run.rglob("*") if p.is_file()}
    events = {f for f in found if f.startswith("tensorboard/")}
    assert any("tfevents" in name for name in events)
    assert found - events == expected
    assert all((small_run / name).stat().st_size > 0 for name in expected)


def test_columns_of_predictions_are_those_of_the_design(small_run: Path) -> None:
    header = (small_run / "evaluation" / "val" / "predictions.csv").read_text().splitlines()[0].split(",")
    classes = ("NORMAL", "BACTERIA", "VIRUS")
    assert header[:5] == ["path", "patient_id", "target", "pred", "score"]
    assert header[5:11] == [f"logit_{c}" for c in classes] + [f"prob_{c}" for c in classes]


def test_status_says_done_and_the_record_says_what_was_used(small_run: Path) -> None:
    status, environment = read_json(small_run / "status.json"), read_json(small_run / "environment.json")
    assert (status["state"], status["epochs"], status["checkpoint"]) == ("done", 2, "last")
    assert environment["weights"] == {"kind": "none", "name": "test_resnet.r160_in1k", "location": "", "sha256": ""}
    assert environment["precision"] == {"training": "float32", "scoring": "float32"}
    assert torch.__version__.startswith(environment["packages"]["torch"])


@pytest.mark.parametrize(("setting", "recorded"), [("auto", "pooling (version"), ("library", "library")])
def test_layers_take_the_ways_to_gradients_that_are_asked_for_and_recorded(
    setting: str, recorded: str, tiny_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    routed: list[str] = []
    monkeypatch.setattr(
        "pneumolit.training.stages.use_fast_gradients",
        lambda backbone, routes: routed.extend(use_fast_gradients(backbone, routes)),
    )
    folder = tmp_path / "train" / "run"
    cfg = tiny_config(f"trainer.conv_gradients={setting}", f"output_dir={tmp_path}")
    fit(cfg, folder, Console(file=io.StringIO()))
    assert read_json(folder / "environment.json")["conv_gradients"].startswith(recorded)
    assert bool(routed) is (setting == "auto")


def test_record_holds_no_host_and_no_user_name(small_run: Path) -> None:
    import platform

    told = " ".join(map(str, flatten(read_json(small_run / "environment.json")).values()))
    assert torch.__version__.partition("+")[0] in told  # of all levels
    for place in (Path.home(), Path(sys.prefix)):
        assert len(place.parts) < 2 or str(place) not in told
    assert not platform.node() or not re.search(rf"(?<![\w.-]){re.escape(platform.node())}(?![\w.-])", told)


def test_stored_configuration_is_the_one_that_ran(small_run: Path, tiny_config: Configure) -> None:
    stored = yaml.safe_load((small_run / "config.yaml").read_text())
    assert stored == tiny_config("test=true", f"output_dir={stored['output_dir']}")


def test_split_of_the_run_is_a_partition_by_patient(small_run: Path) -> None:
    rows = list(RunDir(small_run).read_split())
    patients = {s: {r["patient_id"] for r in rows if r["split"] == s} for s in ("train", "val", "test")}
    assert all(patients.values())
    assert not patients["train"] & patients["val"]


def test_test_true_writes_exactly_one_look(small_run: Path) -> None:
    looks = read_looks(small_run.parents[1])
    assert [look["purpose"] for look in looks] == ["train test=true"]
    metrics = read_json(small_run / "evaluation" / "test" / "metrics.json")
    assert metrics["context"]["look"] == "look 1 of this test set, configuration 1"
    assert "look 1 of this test set" in (small_run / "evaluation" / "test" / "report.md").read_text()
    assert "look 1 of this test set" in (small_run / "report.html").read_text()


def test_without_test_true_the_test_split_is_neither_scored_nor_entered(other_run: Path) -> None:
    assert sorted(p.name for p in (other_run / "evaluation").iterdir()) == ["block", "val"]
    assert read_looks(other_run.parents[1]) == []
    assert not any(p.suffix == ".jsonl" for p in other_run.parents[1].iterdir())


def test_other_choices_reach_the_record(other_run: Path) -> None:
    (plan,), data = read_json(other_run / "freeze_plan.json")["stages"], read_json(other_run / "data.json")
    assert plan["policy"] == "head" and plan["trainable"] == ["fc.weight", "fc.bias"]
    assert data["classes"] == ["NORMAL", "PNEUMONIA"] and data["positive"] == ["PNEUMONIA"]
    hparams = torch.load(other_run / "checkpoints" / "best.ckpt", weights_only=True)["hyper_parameters"]["hparams"]
    counts = data["class_counts"]
    assert hparams["loss"]["class_weight"] == pytest.approx([sum(counts) / (2 * n) for n in counts])


def test_loss_weights_and_balance_decide_the_prior_that_scores_are_rebased_by(small_run: Path) -> None:
    # Three classes drawn equally often: two of three images mean pneumonia.
    assert read_json(small_run / "data.json")["prior_log_odds"] == pytest.approx(0.6931, abs=1e-4)


def test_scores_come_from_the_checkpoint_that_the_configuration_names(other_run: Path) -> None:
    # early_stopping.yaml scores the best epoch.
    run = RunDir(other_run)
    assert read_json(run.evaluation_metrics_file("val"))["context"]["weights"] == "best checkpoint"


def test_scored_logits_are_those_of_the_saved_model(small_run: Path, tiny_config: Configure) -> None:
    run, cfg = RunDir(small_run), tiny_config()
    data = load_data(cfg["data"], cache_folder(cfg["cache_dir"]))
    model = PneumoniaClassifier.from_checkpoint(run.checkpoint("last"))
    images = torch.from_numpy(data.store.images[data.rows("val")]).unsqueeze(1)
    with torch.inference_mode():
        logits = model.logits_of({"image": images})
    stored = torch.from_numpy(run.read_predictions("val").logits).float()
    torch.testing.assert_close(logits, stored, rtol=1e-4, atol=1e-5)


def test_stopped_run_says_interrupted_and_writes_no_result(
    tiny_config: Configure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(self: PneumoniaClassifier) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(PneumoniaClassifier, "on_validation_epoch_end", stop)
    with pytest.raises((KeyboardInterrupt, SystemExit)):
        fit(tiny_config(f"output_dir={tmp_path}", "logger=none"), tmp_path / "run", Console(file=io.StringIO()))
    assert read_json(tmp_path / "run" / "status.json")["state"] == "interrupted"
    assert not (tmp_path / "run" / "evaluation").exists()


def test_nothing_is_written_before_the_data_prove_sound(tiny_config: Configure, tmp_path: Path) -> None:
    cfg = tiny_config("data.val_fraction=0.001")
    with pytest.raises(ValueError, match="the val split holds no image"):
        fit(cfg, tmp_path / "run", Console(file=io.StringIO()))
    assert not (tmp_path / "run").exists()


def test_watcher_sees_every_epoch_and_may_end_the_run(tiny_config: Configure, tmp_path: Path) -> None:
    seen: list[float] = []

    def watch(row: Mapping[str, float]) -> None:
        assert "val/loss" in row
        seen.append(row["epoch"])
        if row["epoch"] == 2:
            raise RunPrunedError("others were better")

    cfg = tiny_config("trainer.max_epochs=3", f"output_dir={tmp_path}")
    with pytest.raises(RunPrunedError):
        fit(cfg, tmp_path / "run", Console(file=io.StringIO()), watch=watch)
    run = RunDir(tmp_path / "run")
    status = read_json(run.status_file)
    assert seen == [1, 2]
    assert (status["state"], status["reason"]) == ("pruned", "others were better")
    assert not run.calibration_file.exists()


def test_record_names_the_code_that_decides_what_is_learned(small_run: Path) -> None:
    assert read_json(small_run / "status.json")["code"] == source_hash()
