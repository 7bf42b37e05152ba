"""The layer before Hydra: paths stand for themselves, mistakes get one message and leave nothing behind."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

import pneumolit
from pneumolit.__main__ import describe
from pneumolit.entry import PATH_KEYS, flags_first, quote_path_value, run_command

Command = Callable[..., Any]


@pytest.fixture(scope="module")
def read_back() -> Callable[[str], Any]:
    from hydra.core.override_parser.overrides_parser import OverridesParser

    parser = OverridesParser.create()

    def read(argument: str) -> Any:
        return parser.parse_override(argument).value()

    return read


# What a file name may hold, but for what is quoted or an interpolation on purpose.
PATHS = st.text(st.characters(blacklist_categories=("Cs", "Cc")), min_size=1, max_size=30).filter(
    lambda p: p != "null" and not p.startswith("${") and not (p[0] == p[-1] and p[0] in "'\"")
)


@given(key=st.sampled_from(sorted(PATH_KEYS)), path=PATHS)
@example(key="predictions", path="[")
@example(key="runs", path="[a")
def test_any_path_reaches_the_configuration_as_it_was_typed(
    read_back: Callable[[str], Any], key: str, path: str
) -> None:
    from omegaconf import OmegaConf

    assume(key not in ("runs", "predictions") or path[0] + path[-1] != "[]")  # which may be lists
    value = OmegaConf.create({"value": str(read_back(quote_path_value(f"{key}={path}")))})
    assert value["value"] == path


@pytest.mark.parametrize(
    "argument", ["optim.lr=0.1", "data=demo", "--help", "data.root=null", "data.root='/a b'", "~data.root", "run_dir="]
)
def test_everything_else_is_left_to_hydra(argument: str) -> None:
    assert quote_path_value(argument) == argument


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["a=1", "--multirun", "b=2"], ["--multirun", "a=1", "b=2"]),
        (["a=1", "--config-dir", "mine", "b=2"], ["--config-dir", "mine", "a=1", "b=2"]),
        (["a=1", "--config-dir=mine", "b=2"], ["--config-dir=mine", "a=1", "b=2"]),
        (["a=1", "-c", "job", "b=2", "-m"], ["-c", "job", "-m", "a=1", "b=2"]),
        (["a=-1", "~b", "--help"], ["--help", "a=-1", "~b"]),
        (["a=1", "--cfg"], ["--cfg", "a=1"]),
        (["a=1", "--info"], ["--info", "all", "a=1"]),
        (["--info", "a=1", "-m"], ["--info", "all", "-m", "a=1"]),
        (["a=1", "-i", "config"], ["-i", "config", "a=1"]),
    ],
)
def test_flags_come_first_with_their_values_and_overrides_keep_their_order(
    arguments: list[str], expected: list[str]
) -> None:
    assert flags_first(arguments) == expected


def test_flag_between_overrides_is_taken(command: Command) -> None:
    outcome = command("train", "seed=3", "--cfg", "job", "optim=sgd")
    assert outcome.code == 0, outcome.err
    assert "seed: 3" in outcome.out and "torch.optim.SGD" in outcome.out


def test_output_folder_of_a_refused_run_is_removed_but_nothing_of_the_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Empty folders up to two levels above were once removed, the one that the user stood in among them.
    here = tmp_path / "user" / "here"
    here.mkdir(parents=True)
    monkeypatch.chdir(here)
    monkeypatch.setattr("sys.argv", ["x"])

    def refuse(cfg: dict[str, Any], folder: Path) -> None:
        assert folder.is_dir()
        raise ValueError("no")

    for arguments in (["hydra.run.dir=new"], ["hydra.run.dir=../there"], ["hydra.run.dir=."], []):
        with pytest.raises(SystemExit) as stop:
            run_command("train", refuse, arguments)
        assert stop.value.code == 2
    assert here.is_dir()
    assert list((tmp_path / "user").iterdir()) == [here]
    assert [p.name for p in here.rglob("*")] in ([], ["outputs"])


def test_interrupt_ends_with_its_own_code(
    command: Command, capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)

    def interrupted(cfg: dict[str, Any], folder: Path) -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as stop:
        run_command("train", interrupted, [])
    assert stop.value.code == 130
    assert "Traceback" not in capsys.readouterr().err


def test_interrupt_of_a_task_is_an_exception_again_after_a_start_that_it_would_have_ended_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pneumolit import interrupts

    def left(*_: Any) -> None:
        raise AssertionError("the process would have ended with its folder left behind")

    monkeypatch.setattr(interrupts, "_leave", left)
    monkeypatch.setattr("sys.argv", ["x"])
    folders: list[Path] = []

    def interrupted(cfg: dict[str, Any], folder: Path) -> None:
        folders.append(folder)
        os.kill(os.getpid(), signal.SIGINT)

    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        interrupts.leave_at_once()
        assert signal.getsignal(signal.SIGINT) is left
        with pytest.raises(SystemExit) as stop:
            run_command("train", interrupted, [f"output_dir={tmp_path / 'out'}"])
    finally:
        signal.signal(signal.SIGINT, before)
    assert stop.value.code == 130
    assert len(folders) == 1 and not folders[0].exists()


def test_termination_before_training_ends_with_a_word_its_own_code_and_no_empty_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.argv", ["x"])
    folders: list[Path] = []

    def terminated(cfg: dict[str, Any], folder: Path) -> None:
        folders.append(folder)
        assert folder.is_dir()
        os.kill(os.getpid(), signal.SIGTERM)
        raise AssertionError("the signal came too late")

    before = signal.signal(signal.SIGTERM, lambda *_: None)  # a real SIGTERM would end the tests
    try:
        handler = signal.getsignal(signal.SIGTERM)
        with pytest.raises(SystemExit) as stop:
            run_command("train", terminated, [f"output_dir={tmp_path / 'out'}"])
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)
    assert stop.value.code == 143
    assert capsys.readouterr().err == "pneumolit: stopped before the end\n"
    assert len(folders) == 1 and not folders[0].exists()


def test_variables_that_could_be_secrets_are_not_read(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUD_TOKEN", "secret-value")
    outcome = command("train", "backbone=${oc.env:CLOUD_TOKEN}")
    assert outcome.code == 2
    assert "CLOUD_TOKEN; only variables that begin with PNEUMOLIT_" in outcome.err
    assert "secret-value" not in outcome.err + outcome.out


def test_recipe_without_its_first_line_is_told_so(command: Command, tmp_path: Path) -> None:
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text("optim: {lr: 0.5}\n")
    outcome = command("train", "--config-dir", str(tmp_path), "experiment=mine")
    assert outcome.code == 2
    assert "experiment.optim.lr is no key" in outcome.err and "# @package _global_" in outcome.err


def test_own_config_directory_adds_options(command: Command, tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "optim").mkdir(parents=True)
    (own / "optim" / "mine.yaml").write_text("_target_: torch.optim.AdamW\nlr: 0.5\nweight_decay: 0.0\n")
    outcome = command("train", "--config-dir", str(own), "optim=mine", "--cfg", "job")
    assert outcome.code == 0
    assert "lr: 0.5" in outcome.out


@pytest.mark.parametrize("command_name", ["train", "evaluate"])
@pytest.mark.parametrize(
    "argument", ["output_dir=null", "output_dir=", "output_dir=''", "~output_dir", "hydra.run.dir="]
)
def test_output_folder_that_is_none_is_refused_before_a_folder_of_that_name_is_made(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, command_name: str, argument: str
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    outcome = command(command_name, argument)
    assert outcome.code == 2
    assert re.fullmatch(r"pneumolit: \S+ names no folder; leave it out for the default.*\n", outcome.err)
    assert list((tmp_path / "here").iterdir()) == []


def test_empty_variable_counts_as_none(command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # As a path it would be the folder that the user stands in, or the root of the disk for what lies below it.
    for name in ("PNEUMOLIT_OUT", "PNEUMOLIT_CACHE", "PNEUMOLIT_DATA"):
        monkeypatch.setenv(name, "")
    outcome = command("train", "--cfg", "job")
    assert outcome.code == 0, outcome.err
    assert "output_dir: ${oc.env:PNEUMOLIT_OUT,outputs}" in outcome.out
    assert not any(name in os.environ for name in ("PNEUMOLIT_OUT", "PNEUMOLIT_CACHE", "PNEUMOLIT_DATA"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data=demo"], "unrecognized arguments: --data=demo; keys and groups are written without dashes"),
        (["-seed", "3"], "unrecognized arguments: -seed; keys and groups are written without dashes"),
        (["seed=1", "--cfg", "jbo"], r"argument --cfg/-c: invalid choice: 'jbo' \(choose from"),
        (["--config-dir"], "argument --config-dir/-cd: expected one argument"),
    ],
)
def test_unknown_flag_is_one_line_and_no_page_of_usage(command: Command, arguments: list[str], message: str) -> None:
    outcome = command("train", *arguments)
    assert outcome.code == 2 and outcome.out == "" and outcome.left == []
    assert re.fullmatch(f"pneumolit: {message}.*\n", outcome.err), outcome.err


def test_version_is_our_own_and_answered_once(command: Command) -> None:
    outcome = command("train", "--version")
    assert outcome.code == 0 and outcome.err == "" and outcome.out == f"pneumolit {pneumolit.__version__}\n"
    assert describe(["--version"]) == (outcome.out.strip(), 0)


def test_a_primary_file_of_the_user_builds_on_those_of_the_project(command: Command, tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("defaults:\n  - train\n  - _self_\nseed: three\n")
    done = command("train", "--config-dir", str(tmp_path), "--config-name", "own")
    assert done.code == 2 and "seed must be" in done.err, done.err


@pytest.mark.parametrize(("broken", "code", "said"), [("standard output", 0, ""), ("another pipe", 2, "Broken pipe")])
def test_reader_who_has_seen_enough_is_no_mistake_but_a_lost_process_is_one(
    tmp_path: Path, broken: str, code: int, said: str
) -> None:
    task = (
        "    print('first', flush=True); sys.stdin.readline(); print('second', flush=True)\n"
        if broken == "standard output"
        else "    print('first', flush=True); sys.stdin.readline(); raise BrokenPipeError(32, 'Broken pipe')\n"
    )
    script = (
        "import sys\nfrom pneumolit.entry import run_command\n"
        f"def task(cfg, folder):\n{task}"
        "run_command('predict', task, ['run_dir=a', 'input=b'])\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], cwd=tmp_path, text=True,
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    assert process.stdout.readline() == "first\n"
    if broken == "standard output":
        process.stdout.close()
    process.stdin.write("\n")
    process.stdin.flush()
    err = process.stderr.read()
    assert process.wait(timeout=60) == code and err.count("\n") == bool(said) and said in err, err
