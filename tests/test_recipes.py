"""The named recipes: short, whole, and what the published work describes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from pneumolit.config import CONFIG_DIR
from pneumolit.rundir import RunDir, read_json
from pneumolit.stage_plan import check_run, plan_stages
from pneumolit.training.fit import fit

Compose = Callable[..., dict[str, Any]]
RECIPES = sorted((CONFIG_DIR / "experiment").rglob("*.yaml"))
NAMES = [path.relative_to(CONFIG_DIR / "experiment").with_suffix("").as_posix() for path in RECIPES]


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_recipe_has_at_most_25_lines_and_says_how_it_is_run(path: Path) -> None:
    lines = path.read_text().splitlines()
    name = path.relative_to(CONFIG_DIR / "experiment").with_suffix("").as_posix()
    assert len(lines) <= 25
    assert f"python -m pneumolit.train experiment={name}" in path.read_text()


def test_recipes_of_sizes_train_small_and_are_scored_at_the_usual_size(compose_config: Compose) -> None:
    usual, small, growing = (compose_config(*a) for a in ([], ["experiment=small_size"], ["experiment=growing_size"]))
    for cfg in (usual, small, growing):
        check_run(cfg)
    assert (small["model"]["train_size"], small["model"]["image_size"]) == (96, usual["model"]["image_size"])
    stages = plan_stages(growing)
    assert [s.cfg["model"]["train_size"] or s.cfg["model"]["image_size"] for s in stages] == [96, 128]
    assert {s.cfg["model"]["image_size"] for s in stages} == {usual["model"]["image_size"]}
    assert sum(s.epochs for s in stages) == usual["trainer"]["max_epochs"]


def test_study_b_trains_a_flattened_head_and_then_everything_with_another_optimizer(compose_config: Compose) -> None:
    cfg = compose_config("experiment=study_b/resnet50v2_two_stage")
    check_run(cfg)
    frozen, full = plan_stages(cfg)
    assert cfg["backbone"].startswith("resnetv2_50") and cfg["model"]["pool"] == "flatten"
    assert (cfg["model"]["head"], cfg["model"]["hidden"]) == ("mlp", 256)
    assert (frozen.cfg["freeze"]["policy"], full.cfg["freeze"]["policy"]) == ("head", "none")
    assert [s.cfg["optim"]["_target_"] for s in (frozen, full)] == ["torch.optim.Adam", "torch.optim.Adamax"]
    assert [s.cfg["optim"]["lr"] for s in (frozen, full)] == [1e-3, 1e-4]
    assert [s.epochs for s in (frozen, full)] == [10, 5] and full.start == "last"


def test_study_e_version_6_is_what_its_write_up_says(compose_config: Compose) -> None:
    cfg = compose_config("experiment=study_e/v6")
    check_run(cfg)
    assert cfg["backbone"].startswith("resnet50") and cfg["freeze"] == {"policy": "layers", "last": 50}
    assert cfg["loss"] == {"name": "binary_cross_entropy", "label_smoothing": 0.1, "class_weight": "balanced"}
    assert (cfg["optim"]["_target_"], cfg["optim"]["lr"]) == ("torch.optim.Adam", 1e-4)
    assert cfg["model"]["drop_rate"] == 0.5 and cfg["scheduler"]["name"] == "plateau"
    assert cfg["callbacks"]["checkpoint"]["use"] == "best" and cfg["trainer"]["max_epochs"] == 20
    augment = cfg["augment"]
    assert (
        augment["rotate_degrees"] and augment["translate"] and augment["zoom"] != [1.0, 1.0] and augment["brightness"]
    )


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [name for name in NAMES if name.startswith("study_")])
def test_recipe_of_a_study_runs_to_its_end(
    compose_config: Compose, demo_root: Path, cache_dir: Path, tmp_path: Path, recipe: str
) -> None:
    # Everything as in the recipe, but random weights, small images and a few batches in a few epochs.
    cfg = compose_config(
        f"experiment={recipe}", "model.pretrained=false", "model.image_size=64", "data.stress=false",
        "data.val_fraction=0.25", "trainer.limit_train_batches=2", f"data.root={demo_root}", f"cache_dir={cache_dir}",
        "trainer.accelerator=cpu", "trainer.max_epochs=3", f"output_dir={tmp_path}",
    )  # fmt: skip
    for stage in cfg["stages"] or []:
        stage["trainer.max_epochs"] = 2
    fit(cfg, tmp_path / "run", Console(file=io.StringIO()))
    run = RunDir(tmp_path / "run")
    status = read_json(run.status_file)
    planned = sum(stage.epochs for stage in plan_stages(cfg))
    assert status["state"] == "done"
    assert status["epochs"] == len(run.read_metrics())
    assert status["epochs"] == planned or cfg["callbacks"]["early_stopping"]["patience"] is not None
    frozen = read_json(run.freeze_plan_file)["stages"][0]
    assert frozen["trainable_count"] > 0 and frozen["frozen_count"] > 0
