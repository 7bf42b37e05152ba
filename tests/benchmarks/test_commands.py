"""The benchmarks from end to end, as small as they get: the last line is one JSON object with what was promised."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks._common.films import make_film

REPOSITORY = Path(__file__).resolve().parents[2]
TINY = ("backbone=test_resnet", "image_size=32", "batch_size=4", "rounds=2", "seconds=0.05")


def run(name: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", f"benchmarks.{name}", *arguments]
    return subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)


def results(name: str, *arguments: str) -> dict[str, Any]:
    done = run(name, *arguments)
    assert done.returncode == 0, done.stderr
    content: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert content["benchmark"] == name and content["machine"]["cores"] >= 1
    assert {"python", "torch"} <= set(content["versions"]) and content["date"].startswith("20")
    return content


def assert_rates(content: dict[str, Any], names: tuple[str, ...], rounds: int) -> None:
    for name in names:
        assert content[name] > 0 and len(content["rounds"][name]) == rounds, name
    for pair, ratio in content["ratios"].items():
        above, below = pair.split("_over_")
        assert ratio == pytest.approx(content[above] / content[below], abs=0.002)


@pytest.mark.parametrize(
    ("name", "argument", "message"),
    [
        ("training", "round=1", "unknown key round; did you mean rounds"),
        ("training", "steps=0", "steps must be above 0, got 0"),
        ("training", "data.root=absent", "data.root=.*absent does not exist"),
        ("predict", "device=tpu", "device must be cpu or cuda, got 'tpu'"),
        ("features", "rounds=2", "data.root is not set; give data.root=VALUE"),
        ("ingest", "root=absent", "root=.*absent is not a folder"),
        ("startup", "rounds=0", "rounds must be above 0, got 0"),
        ("search", "trials=0", "trials must be above 0, got 0"),
        ("search", "data.root=absent", "data.root=.*absent does not exist"),
    ],
)
def test_a_mistake_ends_a_benchmark_at_once_without_a_traceback(name: str, argument: str, message: str) -> None:
    done = run(name, argument)
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert done.stderr.startswith("benchmark: ")
    assert re.search(message, done.stderr)


def test_a_benchmark_itself_stays_without_torch() -> None:
    # It lives beside its contenders, and a mistyped key must not cost the wait for torch.
    code = (
        "import sys; from benchmarks import features, ingest, predict, startup, training; "
        "sys.exit('torch is imported' if 'torch' in sys.modules else 0)"
    )
    subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, check=True)


@pytest.mark.slow
def test_training_measures_all_loops_on_the_same_task() -> None:
    content = results("training", *TINY, "variant=PNEUMOLIT_ALLOCATOR=default optim=sgd")
    assert_rates(content, ("plain", "lightning", "bare", "pneumolit", "variant"), rounds=2)
    assert {"pneumolit_over_bare", "pneumolit_over_plain", "pneumolit_over_variant"} <= set(content["ratios"])
    assert (content["backbone"], content["batch"], content["image_size"]) == ("test_resnet", 4, 32)
    # The command's own settings reach its process, and nobody else's.
    facts = content["contenders"]
    assert facts["variant"]["allocator"] == "default" and "allocator" not in facts["bare"]


@pytest.mark.slow
def test_training_takes_a_folder_whose_own_validation_images_lack_a_cause(
    tmp_path: Path, write_films: Callable[..., Path]
) -> None:
    # As the 16 of the Kaggle set do.
    persons = [f"person{n}_{cause}_{n}.jpeg" for n in range(1, 9) for cause in ("bacteria", "virus")]
    root = write_films(
        tmp_path / "films",
        {
            "train/NORMAL": [f"IM-{n:04d}-0001.jpeg" for n in range(1, 9)],
            "train/PNEUMONIA": persons,
            "val/NORMAL": ["IM-0100-0001.jpeg"],
            "val/PNEUMONIA": ["person100_bacteria_1.jpeg"],
        },
    )
    content = results("training", *TINY, f"data.root={root}")
    assert_rates(content, ("plain", "lightning", "bare", "pneumolit"), rounds=2)


@pytest.mark.slow
def test_predict_measures_scoring_in_both_formats() -> None:
    content = results("predict", *TINY)
    assert_rates(content, ("folder", "float32", "bf16", "pneumolit", "pneumolit_bf16"), rounds=2)


@pytest.mark.slow
def test_ingest_compares_the_store_with_the_fastest_exact_enough_reader(tmp_path: Path) -> None:
    for number in range(6):
        (tmp_path / "NORMAL").mkdir(exist_ok=True)
        make_film(number, 600).save(tmp_path / "NORMAL" / f"{number}.jpeg")
    content = results("ingest", f"root={tmp_path}", "copies=20", "size=64", "rounds=2")
    assert content["difference"]["pillow"] == 0 and content["difference"][content["fastest"]] <= 0.3
    assert len(content["rounds"]["pneumolit"]) == 2 and content["peak_mb"] > 0
    assert content["opening"]["images"] == 5856
    assert 0 < content["opening"]["open_store_s"] < content["opening"]["load_data_s"]


@pytest.mark.slow
def test_startup_measures_up_to_the_first_step() -> None:
    content = results("startup", "rounds=1")
    assert_rates(content, ("imports", "help", "cfg", "first_step", "frozen"), rounds=1)


@pytest.mark.slow
def test_sweep_measures_the_pool_against_a_loop_and_hydras_own_launcher(demo_root: Path) -> None:
    small = ("backbone=test_resnet", "pretrained=false", "image_size=32", "jobs=2", "epochs=1", "rounds=1")
    content = results("sweep", f"data.root={demo_root}", *small)
    assert_rates(content, ("loop", "basic", "one", "two"), rounds=1)
    assert content["seconds_per_job_of_pool"] == pytest.approx((content["one"] - content["basic"]) / 2, abs=0.01)


@pytest.mark.slow
def test_search_scores_both_samplers_with_the_same_number_of_trials() -> None:
    further = "overrides=model.pretrained=false data.val_fraction=0.25 data.store_size=64"
    content = results("search", "backbone=test_resnet", "image_size=32", "seeds=2", "trials=3", "epochs=1", further)
    for name in ("tpe", "random"):
        best, mean = content["best"][name], content[name]["mean"]
        assert len(best) == 2 and mean == pytest.approx(sum(best) / 2, abs=1e-4) and content[name]["error"] >= 0
    assert content["best"]["tpe"] == content["best"]["random"]  # TPE's first ten trials are drawn blindly too
    assert content["tpe_minus_random"] == {"mean": 0.0, "error": 0.0} and content["trials"] == 3
