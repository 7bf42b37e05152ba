"""`train` that was stopped: what it says, what it leaves, how it goes on, and what it refuses to go on with."""

from __future__ import annotations

import os
import re
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from filelock import FileLock

from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.rundir import RunDir, read_json, write_json, write_yaml
from pneumolit.training.precision import lightning_precision
from pneumolit.training.resume import newest_unfinished, refuse_differences

Command = Callable[..., Any]
TINY = (
    "backbone=test_resnet", "model.pretrained=false", "model.image_size=32", "data.batch_size=16",
    "data.val_fraction=0.25", "trainer.max_epochs=3", "trainer.accelerator=cpu", "data.stress=false",
    "precision=float32", "logger=none",
)  # fmt: skip


@pytest.fixture
def stop_in(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """`stop_in(epoch, signal_number)`: the process gets the signal in a batch of that epoch (from 0), once."""

    def arranged(epoch: int, number: int = signal.SIGINT) -> None:
        whole = PneumoniaClassifier.training_step
        sent: list[int] = []

        def step(self: PneumoniaClassifier, batch: Any, batch_idx: int) -> Any:
            if self.current_epoch == epoch and not sent:
                sent.append(number)
                os.kill(os.getpid(), number)
            return whole(self, batch, batch_idx)

        monkeypatch.setattr(PneumoniaClassifier, "training_step", step)

    return arranged


def weights_of(folder: Path) -> dict[str, torch.Tensor]:
    state: dict[str, torch.Tensor] = torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
    return state


@pytest.mark.parametrize(
    ("number", "code", "reason"),
    [(signal.SIGINT, 130, "Ctrl-C"), pytest.param(signal.SIGTERM, 143, "SIGTERM", marks=pytest.mark.slow)],
)
def test_stopped_run_keeps_its_epochs_says_how_to_go_on_and_does(
    command: Command, demo_root: Path, tmp_path: Path, stop_in: Callable[..., None], number: int, code: int, reason: str
) -> None:
    straight, folder = tmp_path / "out" / "straight", tmp_path / "out" / "stopped"
    assert command("train", f"data.root={demo_root}", *TINY, f"hydra.run.dir={straight}").code == 0
    stop_in(1, number)
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    stopped = command("train", f"data.root={demo_root}", *TINY, f"hydra.run.dir={folder}")
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before
    assert stopped.code == code and "Traceback" not in stopped.err
    assert f"stopped after 1 of 3 epochs, which are kept. Go on with: python -m pneumolit.train run_dir={folder}" in (
        stopped.err.replace("\n", " ")
    )
    status = read_json(folder / "status.json")
    assert (status["state"], status["reason"]) == ("interrupted", reason)
    assert [row["epoch"] for row in RunDir(folder).read_metrics()] == [1]
    assert not (folder / ".lock").exists()
    resumed = command("train", f"run_dir={folder}")
    assert resumed.code == 0, resumed.err
    assert f"Going on with {folder} after epoch 1 of 3, from last.ckpt." in resumed.out
    assert read_json(folder / "status.json")["state"] == "done"
    assert read_json(folder / "environment.json")["resumed"][0]["epochs"] == 1
    expected, found = weights_of(straight), weights_of(folder)
    assert all(torch.equal(found[k], v) for k, v in expected.items())
    # The other command's own output folder is empty and gone.
    assert not (tmp_path / "out" / "train").exists()


def test_resume_starts_a_run_where_there_is_none_and_leaves_a_done_one_alone(
    command: Command, demo_root: Path, tmp_path: Path
) -> None:
    arguments = ("resume=true", f"data.root={demo_root}", *TINY, f"hydra.run.dir={tmp_path / 'out' / 'x'}")
    assert command("train", *arguments).code == 0
    before = (tmp_path / "out" / "x" / "checkpoints" / "last.ckpt").stat().st_mtime_ns
    again = command("train", *arguments)
    assert again.code == 0 and "is done; nothing is left to do" in again.out
    assert (tmp_path / "out" / "x" / "checkpoints" / "last.ckpt").stat().st_mtime_ns == before


def test_resume_without_a_folder_takes_the_newest_unfinished_run_of_this_configuration(
    command: Command, demo_root: Path, tmp_path: Path, stop_in: Callable[..., None]
) -> None:
    arguments = (f"data.root={demo_root}", *TINY)
    stop_in(1)
    assert command("train", *arguments, "seed=1").code == 130
    (other,) = (tmp_path / "out" / "train").rglob("config.yaml")
    fresh = command("train", *arguments, "resume=true")
    assert fresh.code == 0 and "No unfinished run has this configuration; a new one starts." in fresh.out
    resumed = command("train", *arguments, "seed=1", "resume=true")
    assert resumed.code == 0 and "after epoch 1 of 3" in resumed.out
    assert read_json(other.parent / "status.json")["state"] == "done"


def test_resume_without_a_folder_takes_a_run_of_the_same_data_before_a_newer_one_of_others(
    compose_config: Callable[..., dict[str, Any]], tmp_path: Path
) -> None:
    def asked(name: str) -> dict[str, Any]:
        return compose_config("data=manifest", f"data.manifest={tmp_path / name}.csv")

    for number, name in enumerate(("b", "a")):
        run = RunDir(tmp_path / "train" / name)
        run.path.mkdir(parents=True)
        write_yaml(run.config_file, asked(name))
        run.write_status("interrupted")
        os.utime(run.config_file, (number, number))
    found = newest_unfinished(asked("b"), tmp_path)
    assert found is not None and found.path.name == "b"
    moved = newest_unfinished(asked("c"), tmp_path)
    assert moved is not None and moved.path.name == "a"  # the newest may be the one whose file was moved


@pytest.fixture
def stopped_run(command: Command, demo_root: Path, tmp_path: Path, stop_in: Callable[..., None]) -> Path:
    stop_in(1)
    folder = tmp_path / "out" / "stopped"
    root = shutil.copytree(demo_root, tmp_path / "phantoms")
    assert command("train", f"data.root={root}", *TINY, f"hydra.run.dir={folder}").code == 130
    return folder


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("optim.lr=0.5", r"optim.lr=0.5 instead of 0.001"),
        ("optim=sgd", r"optim._target_=torch.optim.SGD instead of torch.optim.AdamW"),
        ("seed=7", "seed=7 instead of 0"),
        ("experiment=linear_probe", "freeze.policy=head instead of none"),
    ],
)
def test_override_that_differs_from_the_run_is_named_and_refused(
    command: Command, stopped_run: Path, override: str, message: str
) -> None:
    outcome = command("train", f"run_dir={stopped_run}", override)
    assert outcome.code == 2 and "was started with another configuration" in outcome.err
    assert message in outcome.err
    assert read_json(stopped_run / "status.json")["state"] == "interrupted"


def test_way_out_of_a_refused_resume_can_be_copied_to_a_shell(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "my run")
    run.path.mkdir()
    run.config_file.write_text(
        "{seed: 0, backbone: resnet18, precision: auto, model: {image_size: 64}, data: {source: demo, store_size: 64}, "
        "callbacks: {checkpoint: {use: last}}}"
    )
    with pytest.raises(ValueError, match=rf"give run_dir='{re.escape(str(run.path))}' alone"):
        refuse_differences({"seed": 1}, run)


@pytest.mark.slow
def test_override_that_says_what_the_run_says_is_taken(command: Command, stopped_run: Path) -> None:
    outcome = command("train", f"run_dir={stopped_run}", "trainer.max_epochs=3", "data.num_workers=1")
    assert outcome.code == 0, outcome.err


def test_folder_without_a_run_cannot_be_resumed(command: Command, tmp_path: Path) -> None:
    outcome = command("train", f"run_dir={tmp_path}")
    assert outcome.code == 2 and "holds no run" in outcome.err


def test_images_that_moved_are_found_by_data_root_and_other_images_are_refused(
    command: Command, stopped_run: Path, tmp_path: Path
) -> None:
    moved = (tmp_path / "phantoms").rename(tmp_path / "moved")
    assert command("train", f"run_dir={stopped_run}").code == 2
    first, second, *_ = sorted((moved / "train" / "NORMAL").iterdir())
    spoiled = shutil.copytree(moved, tmp_path / "spoiled")
    shutil.copy(spoiled / second.relative_to(moved), spoiled / first.relative_to(moved))
    outcome = command("train", f"run_dir={stopped_run}", f"data.root={spoiled}")
    assert outcome.code == 2 and "contents or split differ" in outcome.err
    assert command("train", f"run_dir={stopped_run}", f"data.root={moved}").code == 0


def test_second_process_on_the_same_run_is_refused(command: Command, stopped_run: Path) -> None:
    with FileLock(stopped_run / ".lock"):
        outcome = command("train", f"run_dir={stopped_run}")
    assert outcome.code == 2 and "another process is working on the run" in outcome.err
    assert read_json(stopped_run / "status.json")["state"] == "interrupted"


def test_damaged_checkpoint_means_starting_again(command: Command, stopped_run: Path) -> None:
    path = stopped_run / "checkpoints" / "last.ckpt"
    path.write_bytes(path.read_bytes()[:1000])
    outcome = command("train", f"run_dir={stopped_run}")
    assert outcome.code == 0 and "it starts from the beginning" in outcome.out
    assert [row["epoch"] for row in RunDir(stopped_run).read_metrics()] == [1, 2, 3]


def test_scores_of_weights_that_are_trained_further_are_gone_and_those_of_the_last_weights_stay(
    command: Command, stopped_run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(stopped_run)
    made = {"made by": "weights after one epoch"}
    write_json(run.calibration_file, {**made, "calibration": None, "operating_points": [], "fitted_on": "val"})
    empty: dict[str, Any] = {
        "num_images": 0,
        "context": {},
        "positive": [],
        "class_view": {"accuracy": 1.0},
        "intervals": {"class_view": {}},
    }
    write_json(run.evaluation_metrics_file("ward7"), {**made, **empty})

    def killed(*arguments: Any, **keywords: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("pneumolit.training.fit.write_page", killed)  # all is scored, and the end is near
        assert command("train", f"run_dir={stopped_run}").code == 130
    assert "made by" not in read_json(run.calibration_file)
    assert not run.evaluation_folder("ward7").exists()
    shutil.copytree(run.evaluation_folder("val"), run.evaluation_folder("ward7"))
    assert command("train", f"run_dir={stopped_run}").code == 0
    assert run.evaluation_metrics_file("ward7").is_file()


def test_automatic_precision_is_on_resume_what_it_was_at_the_start(
    command: Command, demo_root: Path, tmp_path: Path, stop_in: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    used: list[str] = []

    def noted(name: str) -> Any:
        used.append(name)
        return lightning_precision(name)

    monkeypatch.setattr("pneumolit.training.build.lightning_precision", noted)
    folder = tmp_path / "out" / "run"
    stop_in(1)
    monkeypatch.setattr("pneumolit.training.precision._has_bf16", lambda accelerator: True)
    arguments = [argument for argument in TINY if not argument.startswith("precision")]
    assert command("train", f"data.root={demo_root}", *arguments, f"hydra.run.dir={folder}").code == 130
    monkeypatch.setattr("pneumolit.training.precision._has_bf16", lambda accelerator: False)  # another machine
    assert command("train", f"run_dir={folder}").code == 0
    assert used == ["bf16", "bf16"]
    assert read_json(folder / "environment.json")["precision"] == {"training": "bf16", "scoring": "float32"}


@pytest.mark.slow
def test_a_run_that_began_before_a_key_existed_is_resumed_with_what_the_key_is_now(
    command: Command, stopped_run: Path
) -> None:
    config = yaml.safe_load((stopped_run / "config.yaml").read_text())
    del config["trainer"]["cuda_graphs"]
    (stopped_run / "config.yaml").write_text(yaml.safe_dump(config))
    outcome = command("train", f"run_dir={stopped_run}")
    assert outcome.code == 0, outcome.err
    assert read_json(stopped_run / "status.json")["state"] == "done"


def test_record_that_a_kill_left_unfinished_is_written_again(
    command: Command, stopped_run: Path, tmp_path: Path
) -> None:
    stored = yaml.safe_load((stopped_run / "config.yaml").read_text())
    (stopped_run / "status.json").unlink()
    shutil.rmtree(stopped_run / "checkpoints")
    arguments = (f"data.root={stored['data']['root']}", *TINY, f"hydra.run.dir={stopped_run}")
    refused = command("train", *arguments)
    assert refused.code == 2 and "already holds a run; go on with it by resume=true" in refused.err
    assert command("train", *arguments, "resume=true").code == 0
    assert read_json(stopped_run / "status.json")["state"] == "done"


@pytest.mark.slow
def test_folder_of_the_environment_does_not_replace_the_runs_own_images(
    command: Command, stopped_run: Path, demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(demo_root, tmp_path / "other")
    for film in list((other / "train" / "NORMAL").iterdir())[:3]:
        film.unlink()
    monkeypatch.setenv("PNEUMOLIT_DATA", str(other))
    outcome = command("train", f"run_dir={stopped_run}")
    assert outcome.code == 0, outcome.err
    status = read_json(stopped_run / "status.json")
    assert status["state"] == "done" and "reason" not in status


def test_checkpoints_without_a_record_are_not_taken_for_a_new_run(command: Command, stopped_run: Path) -> None:
    root = yaml.safe_load((stopped_run / "config.yaml").read_text())["data"]["root"]
    for name in ("config.yaml", "status.json"):
        (stopped_run / name).unlink()
    outcome = command("train", f"data.root={root}", *TINY, "optim.lr=0.05", f"hydra.run.dir={stopped_run}")
    assert outcome.code == 2 and "holds checkpoints without the record of a run" in outcome.err
    assert not (stopped_run / "status.json").exists()


def test_run_dir_and_another_folder_at_once_are_refused(command: Command, stopped_run: Path, tmp_path: Path) -> None:
    outcome = command("train", f"run_dir={stopped_run}", f"hydra.run.dir={tmp_path / 'out' / 'else'}")
    assert outcome.code == 2 and "hydra.run.dir has no effect" in outcome.err


def test_recipe_that_a_run_was_started_with_may_be_given_again_and_another_one_not(
    command: Command, demo_root: Path, tmp_path: Path, stop_in: Callable[..., None]
) -> None:
    stop_in(1)
    folder = tmp_path / "out" / "run"
    arguments = ("experiment=linear_probe", f"data.root={demo_root}", *TINY)
    assert command("train", *arguments, f"hydra.run.dir={folder}").code == 130
    other = command("train", f"run_dir={folder}", "experiment=two_stages")
    assert other.code == 2 and "stages=" in other.err
    assert command("train", f"run_dir={folder}", "experiment=linear_probe").code == 0


@pytest.mark.slow
def test_foreign_files_below_the_output_folder_are_passed_over(
    command: Command, demo_root: Path, tmp_path: Path
) -> None:
    (tmp_path / "out" / "theirs").mkdir(parents=True)
    for name, text in (("config.yaml", ""), ("status.json", "{}")):
        (tmp_path / "out" / "theirs" / name).write_text(text)
    assert command("train", "resume=true", f"data.root={demo_root}", *TINY).code == 0


@pytest.mark.parametrize("error", [RuntimeError("DataLoader worker exited unexpectedly"), SystemExit(1)])
def test_whatever_a_stop_leads_to_the_run_counts_as_interrupted(stopped_run: Path, error: BaseException) -> None:
    # The whole process group gets the signal, and worker processes that end raise an error of their own.
    from pneumolit.interrupts import RunInterruptedError
    from pneumolit.training.fit import _status_kept

    run = RunDir(stopped_run)
    with pytest.raises(RunInterruptedError) as caught, _status_kept(run, []):
        try:
            os.kill(os.getpid(), signal.SIGTERM)
        except KeyboardInterrupt:
            raise error from None
    assert caught.value.exit_code == 143
    status = read_json(run.status_file)
    assert (status["state"], status["reason"]) == ("interrupted", "SIGTERM")
