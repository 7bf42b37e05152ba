"""The named recipes: short, whole, and what the published work describes."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from rich.console import Console

from pneumolit.config import CONFIG_DIR, flatten
from pneumolit.rundir import RunDir, read_json
from pneumolit.stage_plan import check_run, plan_stages
from pneumolit.training.fit import fit

Compose = Callable[..., dict[str, Any]]
RECIPES = sorted((CONFIG_DIR / "experiment").rglob("[!_]*.yaml"))  # _base.yaml is what the rows of a study share
NAMES = [path.relative_to(CONFIG_DIR / "experiment").with_suffix("").as_posix() for path in RECIPES]


@pytest.mark.parametrize("path", RECIPES, ids=NAMES)
def test_recipe_has_at_most_25_lines_and_says_how_it_is_run(path: Path) -> None:
    lines = path.read_text().splitlines()
    name = path.relative_to(CONFIG_DIR / "experiment").with_suffix("").as_posix()
    assert len(lines) <= 25
    assert f"python -m pneumolit.train experiment={name}" in path.read_text()


STAND_INS = [name for name in NAMES if name.endswith(("_lite0", "_lite2")) and name.startswith("study_")]


def changed(one: dict[str, Any], other: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Keys whose values differ, with both."""
    flat, other_flat = flatten(one), flatten(other)
    keys = flat.keys() | other_flat.keys()
    return {k: (flat.get(k), other_flat.get(k)) for k in keys if flat.get(k) != other_flat.get(k)}


def test_recipes_of_sizes_train_small_and_are_scored_at_the_usual_size(compose_config: Compose) -> None:
    usual, small, growing = (compose_config(*a) for a in ([], ["experiment=small_size"], ["experiment=growing_size"]))
    for cfg in (usual, small, growing):
        check_run(cfg)
    assert (small["model"]["train_size"], small["model"]["image_size"]) == (96, usual["model"]["image_size"])
    stages = plan_stages(growing)
    assert [s.cfg["model"]["train_size"] or s.cfg["model"]["image_size"] for s in stages] == [96, 128]
    assert {s.cfg["model"]["image_size"] for s in stages} == {usual["model"]["image_size"]}
    assert sum(s.epochs for s in stages) == usual["trainer"]["max_epochs"]


def test_the_best_recipes_are_candidates_that_were_tried(compose_config: Compose) -> None:
    for best, candidate in (
        (["experiment=best"], ["experiment=candidate/lite2_128_long"]),
        (["experiment=best_fast"], ["experiment=candidate/lite0_128"]),
        (["experiment=best", "sweep=best_ensemble"], ["experiment=candidate/lite2_128", "sweep=candidates"]),
    ):
        assert compose_config(*best) == compose_config(*candidate)


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


# Row of study D's table: backbone, side, dropout, optimizer, learning rate, batch size.
STUDY_D = {
    "baseline_128": ("baseline_cnn", 128, 0.0, "Adam", 1e-3, 32),
    "baseline_224": ("baseline_cnn", 224, 0.0, "Adam", 1e-3, 32),
    "batch_norm": ("baseline_cnn_keras_bn", 224, 0.0, "Adam", 1e-3, 32),
    "dropout_2": ("baseline_cnn", 224, 0.2, "Adam", 1e-3, 32),
    "dropout_5": ("baseline_cnn", 224, 0.5, "Adam", 1e-3, 32),
    "dropout_8": ("baseline_cnn", 224, 0.8, "Adam", 1e-3, 32),
    "densenet201_adam": ("densenet201", 224, 0.0, "Adam", 1e-3, 32),
    "densenet201_adam_dropout_2": ("densenet201", 224, 0.2, "Adam", 1e-3, 32),
    "densenet201_sgd_1e-3_dropout_2": ("densenet201", 224, 0.2, "SGD", 1e-3, 32),
    "densenet201_sgd_1e-3_dropout_5": ("densenet201", 224, 0.5, "SGD", 1e-3, 32),
    "densenet201_sgd_3e-4_dropout_2": ("densenet201", 224, 0.2, "SGD", 3e-4, 32),
    "densenet201_sgd_1e-3_dropout_2_batch_16": ("densenet201", 224, 0.2, "SGD", 1e-3, 16),
}


def test_study_d_has_a_recipe_for_every_row_of_its_table_and_no_other() -> None:
    own = {name for name in NAMES if name.startswith("study_d/") and name.count("/") == 1}
    assert {name for name in own if name not in STAND_INS} == {f"study_d/{row}" for row in STUDY_D}


def test_rows_of_study_d_that_can_run_are_repeated_with_whole_patients_and_nothing_else_changed(
    compose_config: Compose,
) -> None:
    runnable = {
        name for name in NAMES
        if name.startswith("study_d/") and name.count("/") == 1 and not name.startswith("study_d/densenet201")
    } | {name for name in STAND_INS if name.startswith("study_d/") and name.count("/") == 1}  # fmt: skip
    by_patients = {name for name in NAMES if name.startswith("study_d/by_patients/")}
    assert {name.replace("by_patients/", "") for name in by_patients} == runnable
    for name in sorted(by_patients):
        cfg, there = (
            compose_config(f"experiment={name}"),
            compose_config(f"experiment={name.replace('by_patients/', '')}"),
        )
        check_run(cfg)
        assert changed(cfg, there) == {"data.patient_key": ("full", "image")}


@pytest.mark.parametrize("name", STAND_INS)
def test_stand_in_is_the_row_it_names_with_another_backbone(compose_config: Compose, name: str) -> None:
    row, _, ending = name.replace("by_patients/", "").rpartition("_")
    cfg, there = compose_config(f"experiment={name.replace('by_patients/', '')}"), compose_config(f"experiment={row}")
    check_run(cfg)
    found = changed(cfg, there)
    assert found.pop("backbone")[0] == f"tf_efficientnet_{ending}"
    is_shorter = name.startswith("study_d/") or name == "study_a/densenet121_full_100_lite0"
    allowed = {"freeze.last"} if "partial" in name else {"trainer.max_epochs"} if is_shorter else set()
    assert set(found) == allowed


@pytest.mark.parametrize("study", ["study_a", "study_c", "study_e"])
def test_rows_on_the_official_split_set_one_and_the_same_block_aside_and_train_on_gray_films_of_224_px(
    compose_config: Compose, study: str
) -> None:
    names = [name for name in NAMES if name.startswith(f"{study}/")]
    assert len(names) >= 4
    for name in names:
        cfg = compose_config(f"experiment={name}")
        check_run(cfg)
        data, model = cfg["data"], cfg["model"]
        assert (data["holdout_fraction"], data["holdout_blocks"], data["target"], data["balance"]) == (
            0.1,
            1,
            "binary",
            "none",
        )
        assert (model["image_size"], model["in_chans"], data["batch_size"]) == (224, 3, 32)
        assert cfg["callbacks"]["ema"]["decay"] is None and cfg["callbacks"]["swa"]["start_fraction"] is None
        assert data["carve"] == ("official" if study == "study_c" else "random")


# Version of study E: policy, last, dropout, rate, class weights, smoothing, rotates.
STUDY_E = {
    "transfer": ("head", None, 0.0, 1e-3, "none", 0.0, False),
    "v1": ("layers", 50, 0.3, 1e-4, "none", 0.0, False),
    "v2": ("layers", 100, 0.3, 1e-6, "none", 0.0, False),
    "v3": ("layers", 50, 0.3, 1e-4, "none", 0.0, True),
    "v4": ("layers", 50, 0.5, 1e-4, "none", 0.0, True),
    "v5": ("layers", 50, 0.5, 1e-4, "balanced", 0.0, True),
    "v6": ("layers", 50, 0.5, 1e-4, "balanced", 0.1, True),
}


@pytest.mark.parametrize("version", STUDY_E)
def test_version_of_study_e_is_what_its_table_says(compose_config: Compose, version: str) -> None:
    cfg = compose_config(f"experiment=study_e/{version}")
    freeze, loss = cfg["freeze"], cfg["loss"]
    assert STUDY_E[version] == (
        freeze["policy"], freeze.get("last"), cfg["model"]["drop_rate"], cfg["optim"]["lr"], loss["class_weight"],
        loss["label_smoothing"], cfg["augment"]["rotate_degrees"] > 0,
    )  # fmt: skip
    assert cfg["backbone"] == "resnet50.tv_in1k" and cfg["optim"]["_target_"] == "torch.optim.Adam"


@pytest.mark.parametrize("row", STUDY_D)
def test_row_of_study_d_is_what_the_table_says(compose_config: Compose, row: str) -> None:
    cfg = compose_config(f"experiment=study_d/{row}")
    check_run(cfg)
    model, data, optim, callbacks = cfg["model"], cfg["data"], cfg["optim"], cfg["callbacks"]
    assert STUDY_D[row] == (
        cfg["backbone"].partition(".")[0], model["image_size"], model["drop_rate"],
        optim["_target_"].removeprefix("torch.optim."), optim["lr"], data["batch_size"],
    )  # fmt: skip
    # Keras's optimizers have neither momentum nor decay unless they are asked for.
    assert optim.get("momentum", 0.0) == 0.0 and optim["weight_decay"] == 0.0
    assert (cfg["scheduler"]["name"], cfg["freeze"]["policy"]) == ("constant", "none")
    is_by_hand = row in ("baseline_128", "baseline_224")  # three epochs are fewer than a patience of 10 can stop at
    assert (callbacks["early_stopping"]["patience"], cfg["trainer"]["max_epochs"]) == (
        (None, 3) if is_by_hand else (10, 100)
    )
    use = "last" if is_by_hand else "best"
    assert callbacks["checkpoint"] == {"monitor": "val/loss", "use": use, "also": []}
    assert (data["stratify"], data["val_augment"], data["duplicates"]) == (False, True, "keep")
    assert callbacks["early_stopping"]["monitor"] is None and callbacks["ema"]["decay"] is None
    assert (data["target"], data["resplit"], data["patient_key"]) == ("cause", [0.64, 0.16, 0.20], "image")
    assert (data["balance"], cfg["loss"]["name"], cfg["loss"]["class_weight"]) == ("none", "cross_entropy", "none")
    assert cfg["augment"] == yaml.safe_load((CONFIG_DIR / "augment" / "study_d.yaml").read_text())
    is_densenet = STUDY_D[row][0] == "densenet201"
    assert model["pretrained"] == is_densenet
    assert (model["bn_inference"], data["normalize"]) == (
        ("drawn_batch", "weights") if is_densenet else ("running", "unit")
    )
    check_run({**cfg, "data": {**data, "patient_key": "full"}})  # the variant that its header names


@pytest.mark.parametrize("row", [row for row in STUDY_D if not row.startswith("densenet201")])
def test_baseline_of_study_d_trains_three_classes_at_its_own_size(
    compose_config: Compose, train_only: Callable[..., Any], demo_root: Path, cache_dir: Path, tmp_path: Path, row: str
) -> None:
    cfg = compose_config(
        f"experiment=study_d/{row}", f"data.root={demo_root}", f"cache_dir={cache_dir}", f"output_dir={tmp_path}",
        "data.batch_size=8", "trainer.limit_train_batches=2", "trainer.max_epochs=1", "trainer.accelerator=cpu",
        "trainer.progress_bar=false",
    )  # fmt: skip
    trained = train_only(cfg, tmp_path / "run")
    assert trained.trainer.global_step == 2
    assert (trained.model.settings["image_size"], trained.model.settings["classes"]) == (
        STUDY_D[row][1],
        ["NORMAL", "BACTERIA", "VIRUS"],
    )
    dropouts = {m.p for m in trained.model.backbone.modules() if isinstance(m, torch.nn.Dropout)}
    assert dropouts == {STUDY_D[row][2]}


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


@pytest.fixture(scope="module")
def class_folders(demo_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The four classes of study B as folders, phantoms in them."""
    root = tmp_path_factory.mktemp("classes")
    films = sorted((demo_root / "train").rglob("*.jpeg"))
    for place, name in enumerate(("NoOsteoarthritis", "NoPneumonia", "Osteoarthritis", "Pneumonia")):
        for film in films[place::4][:16]:
            target = root / name / f"{name}{film.stem}.jpeg"
            target.parent.mkdir(exist_ok=True)
            target.write_bytes(film.read_bytes())
    return root


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe", [name for name in NAMES if name.startswith(("study_", "change/", "candidate/", "best"))]
)
def test_recipe_composes_builds_and_trains_two_batches(
    compose_config: Compose, train_only: Callable[..., Any], demo_root: Path, class_folders: Path, cache_dir: Path,
    tmp_path: Path, recipe: str,
) -> None:  # fmt: skip
    # As in the recipe, but random weights, small images and batches; of stages the first.
    is_fixed = recipe.startswith(("study_b/", "study_c/", "study_d/"))  # whose validation is theirs
    root = class_folders if recipe.startswith("study_b/") else demo_root
    cfg = compose_config(
        f"experiment={recipe}", "model.pretrained=false", "model.image_size=64", "data.batch_size=4",
        *([] if is_fixed else ["data.val_fraction=0.25"]), f"data.root={root}", f"cache_dir={cache_dir}",
        *(["model.train_size=48"] if recipe.startswith("change/") else []), f"output_dir={tmp_path}",
        "trainer.limit_train_batches=2", "trainer.max_epochs=1", "trainer.accelerator=cpu",
        "trainer.progress_bar=false",
    )  # fmt: skip
    check_run(cfg)
    first = plan_stages(cfg)[0].cfg
    trained = train_only({**first, "trainer": {**first["trainer"], "max_epochs": 1}}, tmp_path / "run")
    assert trained.trainer.global_step == 2
    two = recipe.startswith(("study_a/", "study_c/", "study_e/")) or recipe == "change/two_classes"
    assert len(trained.model.labels.classes) == (4 if recipe.startswith("study_b/") else 2 if two else 3)


@pytest.mark.slow
@pytest.mark.parametrize(
    "recipe",
    ["study_a/two_layer_cnn", "study_a/densenet121_partial_lite0", "study_c/logistic", "study_d/dropout_2",
     "study_e/v6_lite2"],
)  # fmt: skip
def test_recipe_of_a_study_runs_to_its_end(
    compose_config: Compose, demo_root: Path, cache_dir: Path, tmp_path: Path, recipe: str
) -> None:
    # Everything as in the recipe, but random weights, small images and a few batches in a few epochs.
    cfg = compose_config(
        f"experiment={recipe}", "model.pretrained=false", "model.image_size=64", "data.stress=false",
        *([] if recipe.startswith(("study_c/", "study_d/")) else ["data.val_fraction=0.25"]),  # theirs is given
        "trainer.limit_train_batches=2", f"data.root={demo_root}", f"cache_dir={cache_dir}",
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
    assert frozen["trainable_count"] > 0
    assert (frozen["frozen_count"] > 0) == (plan_stages(cfg)[0].cfg["freeze"]["policy"] != "none")
