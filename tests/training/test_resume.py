"""A run that was killed ends as one that was not, to the bit; another configuration or other images are refused."""

from __future__ import annotations

import csv
import json
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from pneumolit.config import configuration_hash, job_hash
from pneumolit.rundir import RunDir
from pneumolit.stage_plan import check_run
from pneumolit.training.resume import differences, read_config, refuse_differences, with_places_of

Configure = Callable[..., dict[str, Any]]
Start = Callable[..., int]
Tensors = Callable[..., dict[str, torch.Tensor]]

# The default recipe's settings (strong augmentation, EMA, balanced sampler, bf16 where present), plus what draws
# random numbers, over two stages with different optimizers and image sizes; a net with depthwise layers.
RECIPE = (
    "backbone=test_efficientnet", "precision=auto", "model.drop_rate=0.3", "augment.mixup_alpha=0.2",
    "trainer.accumulate_grad_batches=2", "data.batch_size=8", "data.stress=false", "model.mixstyle_prob=0.5",
    "data.val_augment=true", "data.train_fraction=0.8", "augment.frame_prob=0.3", "augment.sharpen_prob=0.3",
    "callbacks.checkpoint.also=[val/loss]",
    "stages=[{freeze: head, epochs: 2, scheduler: plateau}, "
    "{freeze: none, optim: sgd, epochs: 2, model.image_size: 48, start: best}]",
)  # fmt: skip


@pytest.fixture(scope="module")
def start() -> Iterator[Start]:
    """`start(cfg, folder, at="batch", count=3)`: run in a process of its own that is killed there; its exit code.

    With `between=0` every epoch is written, of a stage on stored features too.
    """
    script = Path(__file__).with_name("killed_runs.py")
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdin is not None and server.stdout is not None
        assert server.stdout.readline() == "ready\n"

        def started(
            cfg: dict[str, Any], folder: Path, at: str = "", count: float = 0, between: float | None = None
        ) -> int:
            assert server.stdin is not None and server.stdout is not None
            kill = {"at": at, "count": count} if at else None
            job = {"cfg": cfg, "folder": str(folder), "kill": kill, "between": between}
            server.stdin.write(json.dumps(job) + "\n")
            server.stdin.flush()
            return int(server.stdout.readline())

        yield started
        server.stdin.close()


@pytest.fixture(scope="module")
def undisturbed(start: Start, tiny_config: Configure, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of the run that nothing happened to."""
    folder = tmp_path_factory.mktemp("undisturbed") / "run"
    assert start(tiny_config(*RECIPE), folder) == 0
    return folder


def rows(folder: Path) -> list[dict[str, str]]:
    """metrics.csv without the times."""
    with (folder / "metrics.csv").open(newline="") as handle:
        found = list(csv.DictReader(handle))
    # A row that was read back has 1.0 for 1.
    return [{k: str(float(v)) for k, v in row.items() if k != "seconds"} for row in found]


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Every TensorBoard curve but the times."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder / "tensorboard")).Reload()
    names = [n for n in events.Tags()["scalars"] if "seconds" not in n and not n.startswith("Result/")]
    return {name: [(event.step, event.value) for event in events.Scalars(name)] for name in names}


def assert_same_run(folder: Path, other: Path, tensors_of: Tensors) -> None:
    names = sorted(p.name for p in (other / "checkpoints").iterdir())
    assert sorted(p.name for p in (folder / "checkpoints").iterdir()) == names
    assert {"best.ckpt", "last.ckpt", "best_val_loss.ckpt", "stage1_best.ckpt", "stage1_last.ckpt"} <= set(names)
    for name in names:
        found, expected = (
            torch.load(f / "checkpoints" / name, weights_only=True, map_location="cpu") for f in (folder, other)
        )
        found, expected = tensors_of(found), tensors_of(expected)
        assert found.keys() == expected.keys()
        assert [k for k in expected if not torch.equal(found[k], expected[k])] == [], name
    assert rows(folder) == rows(other)
    assert [float(row["epoch"]) for row in rows(folder)] == [1, 2, 3, 4]
    assert curves(folder) == curves(other)
    assert all([step for step, _ in points] == [1, 2, 3, 4] for points in curves(folder).values())
    for name in ("evaluation/val/predictions.csv", "calibration.json", "split.csv", "freeze_plan.json"):
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


def test_run_from_before_a_key_was_known_goes_on_with_its_own_choices(tiny_config: Configure, tmp_path: Path) -> None:
    asked, stored = tiny_config(), tiny_config("callbacks.checkpoint.monitor=val/loss")
    del stored["logger"]["images_every"], stored["logger"]["projector"], stored["data"]["holdout_blocks"]
    del stored["distill"], stored["model"]["mixstyle_prob"], stored["data"]["stratify"], stored["data"]["val_augment"]
    for key in ("sharpen_prob", "sharpen_amount", "frame_prob", "frame_width"):
        del stored["augment"][key]
    run = RunDir(tmp_path)
    run.config_file.write_text(yaml.safe_dump(stored))
    cfg = with_places_of(read_config(run), asked, [])
    check_run(cfg)
    refuse_differences(cfg, run)
    assert cfg["data"]["holdout_blocks"] == 1 and cfg["callbacks"]["checkpoint"]["monitor"] == "val/loss"
    with pytest.raises(ValueError, match=r"data\.holdout_blocks=2 instead of 1"):
        refuse_differences({"data": {"holdout_blocks": 2}}, run, ["data.holdout_blocks"])
    # The same command goes on with it, and it is the job and the configuration that it was.
    again = tiny_config("callbacks.checkpoint.monitor=val/loss")
    assert differences(again, read_config(run)) == []
    stored["data"]["holdout_blocks"] = 1  # which hashes have known longer
    assert (job_hash(again), configuration_hash(again)) == (job_hash(stored), configuration_hash(stored))
    for change in ("augment.frame_prob=0.5", "model.mixstyle_prob=0.5", "data.stratify=false"):
        assert differences(tiny_config("callbacks.checkpoint.monitor=val/loss", change), read_config(run))
    taught = {**again, "distill": {**again["distill"], "teacher": "scores.csv"}}
    assert differences(taught, read_config(run)) == ["distill.teacher=scores.csv instead of None"]


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_run_killed_three_times_ends_with_the_bits_of_an_undisturbed_one(
    start: Start, undisturbed: Path, tiny_config: Configure, tmp_path: Path, tensors_of: Tensors, workers: int
) -> None:
    cfg, folder = tiny_config(*RECIPE, f"data.num_workers={workers}"), tmp_path / "run"
    kills = [("batch", 12), ("write", 1), ("stages", 1)] if workers else [("write", 2), ("behind", 1), ("batch", 12)]
    for at, count in kills:
        assert start(cfg, folder, at, count) == -9, at
    assert start(cfg, folder) == 0
    assert_same_run(folder, undisturbed, tensors_of)


MOMENTS = [
    ("batch", 3), ("validation", 1), ("write", 1), ("behind", 1), ("copied", 1), ("batch", 11), ("validation", 2),
    ("stages", 1), ("copied", 2), ("behind", 1), ("batch", 9), ("write", 1),
]  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_run_killed_in_every_kind_of_moment_ends_with_the_bits_of_an_undisturbed_one(
    start: Start, undisturbed: Path, tiny_config: Configure, tmp_path: Path, tensors_of: Tensors, workers: int
) -> None:
    cfg, folder = tiny_config(*RECIPE, f"data.num_workers={workers}"), tmp_path / "run"
    for at, count in MOMENTS:
        assert start(cfg, folder, at, count) == -9, (at, count)
    assert start(cfg, folder) == 0
    assert_same_run(folder, undisturbed, tensors_of)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_run_killed_at_ten_random_moments_ends_with_the_bits_of_an_undisturbed_one(
    start: Start, undisturbed: Path, tiny_config: Configure, tmp_path: Path, tensors_of: Tensors, workers: int
) -> None:
    cfg, rng = tiny_config(*RECIPE, f"data.num_workers={workers}"), random.Random(workers)
    folder, kills, runs = tmp_path / "run0", 0, 1
    while kills < 10:
        code = start(cfg, folder, "seconds", rng.uniform(0.2, 4.0))
        if code == 0:  # done before ten kills: the next run begins anew, in a folder that is not done
            assert_same_run(folder, undisturbed, tensors_of)
            folder, runs = tmp_path / f"run{runs}", runs + 1
        else:
            assert code == -9
            kills += 1
    assert start(cfg, folder) == 0
    assert_same_run(folder, undisturbed, tensors_of)


# A stage on stored features of weights that no seed gives, whose epochs are written when there is time, between two
# stages that train everything.
STORED = (
    "precision=auto", "model.drop_rate=0.3", "trainer.accumulate_grad_batches=2", "data.batch_size=8",
    "callbacks.checkpoint.also=[val/loss]",
    "stages=[{freeze: none, epochs: 1}, {freeze: head, augment: none, lr: 0.02, epochs: 2}, "
    "{freeze: none, epochs: 1, model.image_size: 48}]",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("cache", ["lost", "kept"])
def test_run_on_stored_features_killed_in_every_kind_of_moment_ends_with_the_same_bits(
    start: Start, tiny_config: Configure, tmp_path: Path, tensors_of: Tensors, cache: str
) -> None:
    # Another folder for the features of the undisturbed run: what is computed anew must have the same bits.
    cfg, other = tiny_config(*STORED), {**tiny_config(*STORED), "cache_dir": str(tmp_path / "cache")}
    folder, undisturbed = tmp_path / "run", tmp_path / "undisturbed"
    assert start(cfg, undisturbed) == 0
    kills: list[tuple[str, int, float | None]] = [
        ("batch", 3, None), ("features", 2, None), ("batch", 3, None), ("batch", 9, 0), ("write", 1, 0),
        ("copied", 1, 0), ("stages", 1, None), ("write", 1, None),
    ]  # fmt: skip
    for at, count, between in kills:
        if cache == "lost":
            shutil.rmtree(tmp_path / "cache" / "features", ignore_errors=True)
        assert start(other, folder, at, count, between) == -9, at
    assert start(other, folder) == 0
    assert_same_run(folder, undisturbed, tensors_of)
