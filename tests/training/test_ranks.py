"""Several processes train the model that one would: equal parts of the same batches, the same numbers, one end."""

from __future__ import annotations

import csv
import io
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from pneumolit.config import check_config
from pneumolit.data.datamodule import EVAL_BATCH, EvalSampler, TrainSampler
from pneumolit.data.dataset import load_data
from pneumolit.data.mixing import apply_mix, draw_mix
from pneumolit.data.parts import Part
from pneumolit.model.classifier import PneumoniaClassifier, validation_numbers
from pneumolit.rundir import RunDir, read_json
from pneumolit.scoring import predict_logits
from pneumolit.stage_plan import check_run, plan_stages
from pneumolit.training.build import build_datamodule
from pneumolit.training.cuda_graphs import why_unrecorded
from pneumolit.training.distributed import describe_processes, unused_weights_explained
from pneumolit.training.fit import fit
from pneumolit.training.other_ranks import Failure
from pneumolit.training.ranks import count_processes, refuse_other_launchers, refuse_unequal_parts

Configure = Callable[..., dict[str, Any]]

counts = st.integers(1, 4)


@given(counts, st.integers(1, 5), st.integers(0, 3), st.booleans(), st.integers(0, 9))
def test_parts_of_a_batch_are_equal_and_make_up_the_batch_of_one_process(
    count: int, own: int, epoch: int, is_balanced: bool, seed: int
) -> None:
    targets = np.arange(60) % 3

    def sampler(part: Part) -> TrainSampler:
        settings = {"batch_size": own * count, "seed": seed, "is_balanced": is_balanced, "start_epoch": epoch}
        return TrainSampler(targets, part=part, **settings)  # type: ignore[arg-type]

    whole = list(sampler(Part()))
    parts = [list(sampler(Part(index, count))) for index in range(count)]
    assert {len(sampler(Part(index, count))) for index in range(count)} == {len(whole)}
    for batch, *shares in zip(whole, *parts, strict=True):
        assert {len(share.rows) for share in shares} == {own}
        np.testing.assert_array_equal(np.concatenate([share.rows for share in shares]), batch.rows)
        places = [np.arange(share.start, share.start + own) for share in shares]
        np.testing.assert_array_equal(np.concatenate(places), np.arange(batch.start, batch.start + own * count))


@given(counts, st.integers(1, 40), st.integers(1, 7))
def test_every_row_is_validated_once_in_the_batch_of_one_process_and_every_process_has_a_batch(
    count: int, length: int, size: int
) -> None:
    batches = [list(EvalSampler(length, size, part=Part(index, count))) for index in range(count)]
    assert all(batches)
    assert [len(EvalSampler(length, size, part=Part(i, count))) for i in range(count)] == [len(b) for b in batches]
    found = sorted(tuple(batch.rows) for own in batches for batch in own if len(batch.rows))
    assert found == sorted(tuple(batch.rows) for batch in EvalSampler(length, size))


def test_mixed_images_of_the_parts_are_those_of_the_whole_batch() -> None:
    images = torch.rand(6, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    mix = draw_mix(6, mixup_alpha=0.0, cutmix_alpha=1.0, seed=0, epoch=0, batch=0)
    assert mix is not None
    parts = [slice(0, 3), slice(3, 6)]
    mixed = [apply_mix(images[own], type(mix)(mix.share, mix.order[own], mix.box), images) for own in parts]
    torch.testing.assert_close(torch.cat(mixed), apply_mix(images, mix), rtol=0, atol=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (["data.batch_size=15"], r"data\.batch_size=15 cannot be divided among 2 processes .* set data\.batch_size=14"),
        (["data.batch_size=1"], r"set data\.batch_size=2"),
        (["trainer.auto_batch_size=true"], r"trainer\.auto_batch_size=true cannot be together with 2 processes"),
        (["trainer.cuda_graphs=true"], r"trainer\.cuda_graphs=true cannot be together with 2 processes"),
        (["freeze=head", "trainer.cache_features=true"], r"trainer\.cache_features=true .* head .* in seconds"),
        (["freeze=head", "trainer.feature_views=2"], r"trainer\.feature_views=2 cannot be together with 2 processes"),
        (["stages=[{epochs: 1, batch_size: 7}]"], r"data\.batch_size=7 cannot be divided"),
    ],
)
def test_what_several_processes_cannot_do_is_refused_with_the_reason(
    tiny_config: Configure, changes: list[str], message: str
) -> None:
    check_run(tiny_config(*changes))
    with pytest.raises(ValueError, match=message):
        check_run(tiny_config(*changes, "trainer.devices=2"))


def test_strategy_without_a_second_process_is_refused(tiny_config: Configure) -> None:
    with pytest.raises(ValueError, match=r"trainer\.strategy=ddp has no effect because trainer\.devices=1"):
        check_config(tiny_config("trainer.strategy=ddp"))
    check_config(tiny_config("trainer.strategy=ddp", "trainer.devices=2"))
    check_config(tiny_config("trainer.strategy=ddp", "trainer.devices=auto"))


def test_more_gpus_than_there_are_are_refused_and_auto_takes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 3)
    assert [count_processes(d, "gpu") for d in (1, 3, "auto")] == [1, 3, 3]
    assert [count_processes(d, "cpu") for d in (1, 4, "auto")] == [1, 4, 1]
    with pytest.raises(ValueError, match=r"trainer\.devices=4, but this machine has 3 GPUs; set trainer\.devices=3"):
        count_processes(4, "gpu")
    with pytest.raises(ValueError, match=r"trainer\.devices=2, but MPS is one device"):
        count_processes(2, "mps")


def test_batches_that_the_machine_s_gpus_cannot_share_are_refused(tiny_config: Configure) -> None:
    stages = plan_stages(tiny_config("trainer.devices=auto"))  # batches of 16
    refuse_unequal_parts(stages, 4, 100)
    refuse_unequal_parts(stages, 1, 7)
    with pytest.raises(ValueError, match=r"data\.batch_size=16 cannot be divided among 3 processes"):
        refuse_unequal_parts(stages, 3, 100)
    with pytest.raises(ValueError, match=r"holds 7 images, fewer than data\.batch_size=16, .* set data\.batch_size=6"):
        refuse_unequal_parts(stages, 2, 7)


@pytest.mark.parametrize("name", ["WORLD_SIZE", "SLURM_STEP_NUM_TASKS", "OMPI_COMM_WORLD_SIZE"])
def test_process_that_another_program_started_as_one_of_several_is_refused(name: str) -> None:
    refuse_other_launchers({name: "1"})
    with pytest.raises(ValueError, match=rf"{name}=2 says .* set trainer\.devices"):
        refuse_other_launchers({name: "2"})


def test_record_says_what_batch_norms_of_several_processes_see(tiny_config: Configure) -> None:
    stages = plan_stages(tiny_config("stages=[{epochs: 1, freeze: head}, {epochs: 1, batch_size: 32}]"))
    norms: list[tuple[str, ...]] = [(), ("bn1",)]
    assert describe_processes(1, stages, norms) is None
    assert describe_processes(2, stages, norms) == {
        "processes": 2, "strategy": "ddp", "batch_norm": "statistics are per process (16 images each)",
    }  # fmt: skip
    found = describe_processes(2, stages, [(), ()])
    assert found is not None and found["batch_norm"] == "none collects statistics"


def test_several_processes_record_no_cuda_graphs_and_say_why(tiny_config: Configure) -> None:
    why = why_unrecorded(tiny_config(), accelerator="gpu", precision="bf16", is_stored=False, processes=2)
    assert "2 processes" in why


def test_weights_that_no_step_uses_are_explained() -> None:
    refused = pytest.raises(ValueError, match=r"backbone=x has weights .* set trainer\.devices=1")
    with refused, unused_weights_explained("x"):
        raise RuntimeError("Expected to have finished reduction in the prior iteration before starting a new one.")


def test_lost_contact_is_no_cause_and_a_message_for_people_stays_what_it_is() -> None:
    lost = RuntimeError("[/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:1] Connection closed by peer")
    assert not Failure.of(1, lost).is_cause
    failure = Failure.of(1, ValueError("lower optim.lr"))
    assert failure.is_cause and repr(failure.as_error(2)) == "ValueError('lower optim.lr')"
    assert str(Failure.of(1, KeyError("x")).as_error(2)) == "process 2 of 2 failed: KeyError: 'x'"


# Above: in this process. Below: runs in two.


class Pair(NamedTuple):
    """The run folders of one process and of two, and what the second run printed."""

    alone: RunDir
    together: RunDir
    told: str


@pytest.fixture(scope="module")
def pair(tiny_config: Configure, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Pair]:
    """`pair(*overrides)`: the same run in one process and in two."""
    known: dict[tuple[str, ...], Pair] = {}

    def trained(*overrides: str) -> Pair:
        if overrides not in known:
            out = tmp_path_factory.mktemp("pair")
            told = io.StringIO()
            variables, threads = dict(os.environ), torch.get_num_threads()
            for count in (1, 2):
                told = io.StringIO()
                cfg = tiny_config(*overrides, f"trainer.devices={count}", f"output_dir={out}")
                fit(cfg, out / str(count), Console(file=told, width=200))
            assert dict(os.environ) == variables and torch.get_num_threads() == threads
            known[overrides] = Pair(RunDir(out / "1"), RunDir(out / "2"), told.getvalue())
        return known[overrides]

    return trained


# Nothing of these depends on which images stand beside one another, but for what mixes them.
VIT = ("backbone=test_vit", "data.balance=none", "loss.class_weight=balanced", "augment.mixup_alpha=0.4")
STAGED = (
    "backbone=test_convnext", "augment.cutmix_alpha=1", "data.holdout_fraction=0.2", "callbacks.ema.decay=null",
    "callbacks.swa.start_fraction=0.5", "trainer.gradient_clip_val=0.5",
    "stages=[{freeze: head, epochs: 1}, "
    "{freeze: none, epochs: 3, scheduler: plateau, trainer.accumulate_grad_batches: 2, start: last}]",
)  # fmt: skip
BATCH_NORM = ("backbone=test_resnet",)


@pytest.mark.slow
@pytest.mark.parametrize("recipe", [VIT, STAGED], ids=["vit", "staged"])
def test_two_processes_follow_the_curves_of_one(pair: Callable[..., Pair], recipe: tuple[str, ...]) -> None:
    alone, together, _ = pair(*recipe)
    rows, expected = together.read_metrics(), alone.read_metrics()
    assert [row["epoch"] for row in rows] == [row["epoch"] for row in expected]
    for row, other in zip(rows, expected, strict=True):
        assert row.keys() == other.keys()
        for name in row.keys() - {"seconds"}:
            assert row[name] == pytest.approx(other[name], abs=1e-4), (row["epoch"], name)


@pytest.mark.slow
def test_batch_norm_of_two_processes_is_recorded_and_shown(pair: Callable[..., Pair]) -> None:
    _, run, told = pair(*BATCH_NORM)
    norms = "statistics are per process (8 images each)"
    expected = {"processes": 2, "strategy": "ddp", "batch_norm": norms}
    assert read_json(run.environment_file)["distributed"] == expected
    (line,) = [line for line in told.splitlines() if norms in line]
    assert "2 processes" in line


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [[], ["callbacks.ema.decay=null"], ["callbacks.ema.decay=null", "callbacks.swa.start_fraction=0"]],
    ids=["ema", "plain", "swa"],
)
def test_numbers_of_an_epoch_are_those_of_its_checkpoint_scored_in_one_process(
    pair: Callable[..., Pair], tiny_config: Configure, changes: list[str]
) -> None:
    # With batch norm only if both processes validate with the statistics that the checkpoint holds, each row once.
    _, run, _ = pair(*BATCH_NORM, *changes)
    cfg = tiny_config(*BATCH_NORM, *changes)
    rows = build_datamodule(cfg, load_data(cfg["data"], Path(cfg["cache_dir"]))).images_of("stress")
    assert len(rows) > EVAL_BATCH  # so that both have some
    model = PneumoniaClassifier.from_checkpoint(run.checkpoint("last"))
    logits, targets = torch.from_numpy(predict_logits(model, rows)).float(), torch.from_numpy(rows.targets)
    tables = [
        validation_numbers(logits[rows.families == f], targets[rows.families == f], model.labels)
        for f in np.unique(rows.families)
    ]
    expected = {key: np.mean([table[key] for table in tables]) for key in tables[0]}
    last = run.read_metrics()[-1]
    assert {key: last[f"stress/{key}"] for key in expected} == pytest.approx(expected, abs=2e-6)  # six digits written


@pytest.mark.slow
def test_two_processes_leave_the_files_of_one(pair: Callable[..., Pair]) -> None:
    files = [
        {p.relative_to(run.path).as_posix() for p in run.path.rglob("*") if "tfevents" not in p.name}
        for run in pair(*BATCH_NORM)[:2]
    ]
    assert files[0] == files[1]
    assert len(list(pair(*BATCH_NORM).together.tensorboard_folder.glob("*tfevents*"))) == len(
        list(pair(*BATCH_NORM).alone.tensorboard_folder.glob("*tfevents*"))
    )


@pytest.fixture
def run_of_two(tiny_config: Configure, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """`run_of_two("kill", process=1, step=3)`: a run in two processes, one of which fails there."""
    started: list[subprocess.Popen[str]] = []
    # A word of their own in the environment of all its processes, by which they are found.
    mark = f"PNEUMOLIT_TEST_MARK={tmp_path.name}"

    def start(how: str = "", process: int = 0, step: int = 0) -> subprocess.Popen[str]:
        cfg = tiny_config(*VIT, "trainer.devices=2", "trainer.max_epochs=3", f"output_dir={tmp_path}")
        job = {"cfg": cfg, "folder": str(tmp_path / "run"), "process": process, "step": step, "how": how}
        name, value = mark.split("=")
        script = Path(__file__).with_name("rank_runs.py")
        started.append(
            subprocess.Popen(
                [sys.executable, str(script), json.dumps(job)],
                stdout=subprocess.PIPE, text=True, env=os.environ | {name: value},
            )
        )  # fmt: skip
        return started[-1]

    yield start
    for run in started:
        run.kill()
        run.communicate()
    assert wait_until(lambda: not marked(mark), seconds=15), "processes are left"


def marked(mark: str) -> list[int]:
    """Processes with this variable in their environment."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if mark.encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.append(int(folder.name))
        except OSError:
            continue  # gone, or somebody else's
    return found


def wait_until(holds: Callable[[], bool], *, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if holds():
            return True
        time.sleep(0.1)  # for other processes, which tell nobody
    return holds()


needs_proc = pytest.mark.skipif(not Path("/proc/self/environ").is_file(), reason="processes are found in /proc")


@pytest.mark.slow
@needs_proc
@pytest.mark.parametrize(
    ("how", "process", "message"),
    [
        ("kill", 1, "ValueError: process 2 of 2 was ended by SIGKILL"),
        ("raise", 1, "RuntimeError: process 2 of 2 failed: RuntimeError: a bug of this process"),
        ("diverge", 1, "TrainingDivergedError: the loss became nan in epoch 1, step 2"),
        ("raise", 0, "RuntimeError: a bug of this process"),
    ],
)
def test_process_that_fails_ends_the_run_with_its_reason(
    run_of_two: Callable[..., subprocess.Popen[str]], tmp_path: Path, how: str, process: int, message: str
) -> None:
    out, _ = run_of_two(how, process, step=2).communicate(timeout=120)
    assert out.startswith(message)
    status = read_json(tmp_path / "run" / "status.json")
    assert status["state"] == "failed" and status["reason"].startswith(message)


@pytest.mark.slow
@needs_proc
def test_further_process_writes_nothing_into_the_run_folder(run_of_two: Callable[..., subprocess.Popen[str]]) -> None:
    run = run_of_two()
    out, _ = run.communicate(timeout=120)
    assert (run.returncode, out) == (0, "")


@pytest.mark.slow
@needs_proc
def test_first_process_that_is_killed_leaves_none_behind(
    run_of_two: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    run = run_of_two("wait", process=1, step=2)  # which would find out by itself only when it gets to talk
    assert wait_until((tmp_path / "waiting").is_file, seconds=90)
    run.kill()
    run.communicate(timeout=30)
    assert wait_until(lambda: not marked(f"PNEUMOLIT_TEST_MARK={tmp_path.name}"), seconds=5)


@pytest.mark.slow
@needs_proc
def test_sigterm_ends_all_processes_though_one_no_longer_answers(
    run_of_two: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    run = run_of_two("wait", process=1, step=2)
    assert wait_until((tmp_path / "waiting").is_file, seconds=90)
    time.sleep(1)  # by now the first one waits for it
    run.send_signal(signal.SIGTERM)
    out, _ = run.communicate(timeout=30)
    assert run.returncode == 143 and "stopped after 0 of 3 epochs" in out
    assert read_json(tmp_path / "run" / "status.json")["state"] == "interrupted"


@pytest.mark.slow
@needs_proc
def test_interrupted_run_goes_on_to_the_curves_of_one_process(
    run_of_two: Callable[..., subprocess.Popen[str]], tiny_config: Configure, tmp_path: Path
) -> None:
    run = run_of_two()
    metrics = tmp_path / "run" / "metrics.csv"
    assert wait_until(metrics.is_file, seconds=120)
    run.send_signal(signal.SIGINT)
    out, _ = run.communicate(timeout=60)
    assert run.returncode == 130, out
    cfg = tiny_config(*VIT, "trainer.max_epochs=3", f"output_dir={tmp_path}")
    fit(cfg, tmp_path / "alone", Console(file=io.StringIO()))
    fit({**cfg, "trainer": {**cfg["trainer"], "devices": 2}}, tmp_path / "run", Console(quiet=True), resume=True)
    with metrics.open(newline="") as handle:
        rows = list(csv.DictReader(handle))
    expected = RunDir(tmp_path / "alone").read_metrics()
    assert [float(row["epoch"]) for row in rows] == [1, 2, 3]
    for row, other in zip(rows, expected, strict=True):
        assert float(row["train/loss"]) == pytest.approx(other["train/loss"], abs=1e-4)
        assert float(row["val/loss"]) == pytest.approx(other["val/loss"], abs=1e-4)
    assert "distributed" in read_json(tmp_path / "run" / "environment.json")
