"""The ready sweeps: every job that Hydra's sweeper makes of them is a sound run of its own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pneumolit.config import CONFIG_DIR
from pneumolit.stage_plan import check_run

Compose = Callable[..., dict[str, Any]]
FILES = sorted((CONFIG_DIR / "sweep").glob("*.yaml"))
RUNS = {
    "backbones": 6, "best_ensemble": 5, "candidates": 35, "changes": 66, "criterion": 12, "folds": 5,
    "freeze_policies": 10, "grid": 24, "label_efficiency": 15, "results": 45, "results_seeds": 32, "seeds": 5,
    "study_d": 12,
}  # fmt: skip


def jobs_of(sweep: str, *arguments: str) -> list[list[str]]:
    """Overrides of every job of `--multirun sweep=NAME ARGUMENTS`, made as Hydra's own sweeper makes them."""
    from hydra import compose, initialize_config_dir
    from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.override_parser.overrides_parser import OverridesParser

    GlobalHydra.instance().clear()
    with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
        sweeper = compose("train", overrides=[f"sweep={sweep}"], return_hydra_config=True).hydra.sweeper
        assert sweeper._target_.endswith(".BasicSweeper")
        given = [*(f"{key}={value}" for key, value in sweeper.params.items()), f"sweep={sweep}", *arguments]
        (jobs,) = BasicSweeper.split_arguments(OverridesParser.create().parse_overrides(given), None)
    return jobs


def test_every_sweep_is_counted_here() -> None:
    assert [file.stem for file in FILES] == sorted(RUNS)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_sweep_says_its_command_and_the_number_of_its_runs(file: Path) -> None:
    lines = file.read_text().splitlines()
    header = "\n".join(line for line in lines if line.startswith("#"))
    assert lines[0] == "# @package _global_"
    assert f"python -m pneumolit.train --multirun sweep={file.stem}\n" in header
    assert f" {RUNS[file.stem]} runs, " in header
    assert f"sweep: {{name: {file.stem}}}" in lines


@pytest.mark.parametrize(
    "sweep", [name if RUNS[name] < 6 or name == "grid" else pytest.param(name, marks=pytest.mark.slow) for name in RUNS]
)
def test_every_job_of_a_sweep_is_sound_and_differs_from_the_others(compose_config: Compose, sweep: str) -> None:
    jobs = jobs_of(sweep)
    assert len(jobs) == RUNS[sweep]
    found = [compose_config(*job) for job in jobs]
    for cfg in found:
        check_run(cfg)
    assert len({json.dumps(cfg, sort_keys=True) for cfg in found}) == RUNS[sweep]


def test_grid_holds_the_default_run_and_sgd_at_its_own_rate(compose_config: Compose) -> None:
    def job(lr: str, optim: str) -> list[str]:
        others = ["model.drop_rate=0.0", "data.batch_size=32", f"optim={optim}", "sweep=grid"]
        return ["data.holdout_fraction=0.1", f"optim.lr={lr}", *others]

    jobs = jobs_of("grid")
    assert job("0.001", "adamw") in jobs and job("0.01", "sgd") in jobs
    ranked = "data.holdout_fraction=0.1"
    assert compose_config(*job("0.001", "adamw")) == compose_config(ranked)
    assert compose_config(*job("0.01", "sgd")) == compose_config("optim=sgd", ranked)


@pytest.mark.parametrize("sweep", ["backbones", "freeze_policies", "grid"])
def test_sweeps_that_choose_a_recipe_rank_by_a_block_that_is_set_aside(compose_config: Compose, sweep: str) -> None:
    assert compose_config(*jobs_of(sweep)[0])["callbacks"]["checkpoint"]["monitor"] == "block/auroc"
    assert compose_config()["callbacks"]["checkpoint"]["monitor"] == "val/auroc"  # no images are set aside unasked


def test_an_axis_on_the_command_line_replaces_or_joins_those_of_the_sweep() -> None:
    assert len(jobs_of("grid", "optim.lr=1e-4")) == 8
    assert len(jobs_of("study_d", "data.patient_key=image,full")) == 24


def test_study_d_is_swept_over_all_its_rows() -> None:
    rows = {f"study_d/{path.stem}" for path in (CONFIG_DIR / "experiment" / "study_d").glob("[!_]*.yaml")}
    assert {job[0].removeprefix("experiment=") for job in jobs_of("study_d")} == {
        row for row in rows if not row.endswith("_lite0")
    }


def test_results_are_the_best_and_all_rows_that_need_no_weights_but_those_of_the_packages() -> None:
    folder = CONFIG_DIR / "experiment"
    swept = {job[0].removeprefix("experiment=") for job in jobs_of("results")}
    rows = {path.relative_to(folder).with_suffix("").as_posix() for path in folder.rglob("study_[acde]/**/[!_]*.yaml")}
    needs_others = {
        row for row in rows if not row.endswith(("_lite0", "_lite2")) and (folder / f"{row}_lite0.yaml").is_file()
    }
    needs_others |= {row for row in rows if (folder / f"{row}_lite2.yaml").is_file()}
    assert swept == (rows - needs_others) | {"best", "best_fast"}
    again = {job[0].removeprefix("experiment=") for job in jobs_of("results_seeds")}
    assert again < swept


def test_timm_knows_every_backbone_of_the_sweep_by_its_full_name_and_has_weights() -> None:
    from pneumolit.model.backbone import find_backbone

    for name in [key.removeprefix("backbone=") for job in jobs_of("backbones") for key in job if "backbone=" in key]:
        spec = find_backbone(name)
        assert (spec.name, spec.has_weights) == (name, True)
