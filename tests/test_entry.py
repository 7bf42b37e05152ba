"""The layer before Hydra: paths stand for themselves, mistakes get one message with the nearest names."""

from __future__ import annotations

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumolit.entry import PATH_KEYS, explain_hydra_error, flags_first, known_keys, quote_path_value, run_command

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


@given(key=st.sampled_from(sorted(PATH_KEYS - {"runs"})), path=PATHS)
def test_any_path_reaches_the_configuration_as_it_was_typed(
    read_back: Callable[[str], Any], key: str, path: str
) -> None:
    from omegaconf import OmegaConf

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


def test_known_keys_are_dotted_keys_and_groups() -> None:
    keys = known_keys("train")
    assert {"optim.lr", "data", "callbacks.ema.decay", "backbone"} <= set(keys)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("data.val_fracton=0.2", r"unknown key data\.val_fracton; did you mean .*data\.val_fraction"),
        ("lr=0.2", r"unknown key lr; did you mean .*optim\.lr"),
        ("batch_size=8", r"unknown key batch_size; did you mean .*data\.batch_size"),
        ("backbon=resnet18", r"unknown key backbon; did you mean .*backbone"),
        ("data=chest_xry", r"data=chest_xry is no option; did you mean chest_xray.*the options are .*demo"),
        (
            "optim=adan",
            r"optim=adan is no option; did you mean adam.*the options are adam, adamax, adamw, lion, rmsprop, sgd",
        ),
        ("experiment=best", r"experiment=best is no option"),
        ("seed=[1,2", r"an argument cannot be read"),
        ("seed", r"an argument cannot be read"),
    ],
)
def test_mistyped_argument_gets_one_message_with_the_nearest_names(
    command: Command, argument: str, message: str
) -> None:
    outcome = command("train", argument)
    assert outcome.code == 2
    assert outcome.out == ""
    assert outcome.err.startswith("pneumolit: ") and "Traceback" not in outcome.err
    assert outcome.left == []
    assert re.search(message, outcome.err, re.S), outcome.err


@pytest.mark.parametrize(
    ("key", "choice", "message"),
    [
        ("freeze.lats", "freeze=groups", r"did you mean freeze\.last\? \(freeze=groups has policy, last\)$"),
        ("freeze.lats", "", r"unknown key freeze\.lats.* \(the chosen option of freeze has policy\)$"),
        ("optim.momentun", "optim=sgd", r"did you mean optim\.momentum\? \(optim=sgd has .*\+optim\.NAME=VALUE\)$"),
        ("loss.gama", "loss=focal", r"did you mean loss\.gamma\? \(loss=focal has name, gamma"),
        ("optim.decay", "optim=mine", r"unknown key optim\.decay.*optim=mine has _target_, lr"),
    ],
)
def test_unknown_key_of_a_group_names_the_keys_of_the_chosen_option(key: str, choice: str, message: str) -> None:
    given = [choice] if choice else []
    assert re.search(message, explain_hydra_error("train", f"Could not override '{key}'.", [*given, f"{key}=1"]))


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("experiment=study_b", r"experiment=study_b is no option; did you mean study_b/resnet50v2_two_stage\?"),
        ("experiment=study_e/v7", r"experiment=study_e/v7 is no option.*study_e/v6"),
        ("experiment=study_z/v1", r"experiment=study_z/v1 is no option"),
        ("experiment=demoo", r"did you mean demo.*the options are .*demo.*study_b/resnet50v2_two_stage"),
    ],
)
def test_recipes_in_folders_are_offered(command: Command, argument: str, message: str) -> None:
    outcome = command("train", argument)
    assert outcome.code == 2 and outcome.left == []
    assert re.search(message, outcome.err, re.S), outcome.err
    assert outcome.err.count("\n") == 1


def test_argument_with_brackets_that_a_shell_took_apart_is_told_about_single_quotes(command: Command) -> None:
    # stages=[{freeze: head, epochs: 3}] without quotes reaches the command as three arguments.
    apart = command("train", "stages=[{freeze:", "head,", "epochs:", "3}]")
    assert apart.code == 2 and apart.err.count("\n") == 1
    assert (
        "Put an argument with brackets and spaces into single quotes as a whole, as in 'stages=[{freeze:" in apart.err
    )
    plain = command("train", "backbone=a}")
    assert plain.code == 2 and "quote a value with special characters twice" in plain.err


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("data=null", "data=null names no option; give group=OPTION"),  # was a traceback
        ("trainer=3", "trainer=3 names no option"),
        ("=3", "=3 names no option"),
        ("optim=[adam,sgd]", "optim=[adam,sgd] names several options; give one, or --multirun optim=adam,sgd"),
        ("backbone=a,b", "gives several values; for a list write backbone=[a,b], for one text with a comma"),
        ("+seed=3", "seed is there already; set it without the plus, seed=VALUE"),
        ("seed=${optim.lrr}", "seed cannot be read: Interpolation key 'optim.lrr' not found"),
        ("seed=${oc.env:PNEUMOLIT_X}", "seed cannot be read: .*Environment variable 'PNEUMOLIT_X' not found"),
        ("--resolve", "The --resolve flag can only be used in conjunction with --cfg"),
        ("--config-name=x", "Cannot find primary config 'x'"),
    ],
)
def test_what_hydra_says_in_several_lines_or_a_traceback_is_one_line(
    command: Command, argument: str, message: str
) -> None:
    outcome = command("train", argument)
    assert outcome.code == 2 and outcome.left == []
    assert re.fullmatch(f"pneumolit: .*{message.replace('[', re.escape('['))}.*\n", outcome.err), outcome.err


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

    for arguments in (["hydra.run.dir=new"], ["hydra.run.dir=../there"], []):
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


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("optim: {lr: 0.5\nseed: 3", r"mine\.yaml cannot be read as YAML: expected ',' or '}'.* \(line 3\)"),
        ("optim:\n\tlr: 0.5", r"mine\.yaml cannot be read as YAML: found character '\\t' .* \(line 3\)"),
        ("seed: 1\nseed: 2", r"mine\.yaml cannot be read as YAML: found duplicate key seed \(line 3\)"),
        ("seed: \udcff", "a configuration file is no UTF-8 text"),
        ("- a\n- b", "In 'experiment/mine': .* Cannot merge DictConfig with ListConfig"),
        ("defaults:\n  - freeze: head", r"in the defaults of a file of yours write '- override /freeze: head'"),
        ("defaults:\n  - override /freeze: hed", r"freeze=hed is no option; did you mean head\?"),
        ("sed: 3", "sed is no key that does anything; did you mean seed"),
    ],
)
def test_mistake_in_a_file_of_the_users_own_is_one_line(
    command: Command, tmp_path: Path, text: str, message: str
) -> None:
    (tmp_path / "own" / "experiment").mkdir(parents=True)
    content = f"# @package _global_\n{text}\n".encode(errors="surrogateescape")
    (tmp_path / "own" / "experiment" / "mine.yaml").write_bytes(content)
    outcome = command("train", "--config-dir", str(tmp_path / "own"), "experiment=mine")
    assert outcome.code == 2 and outcome.left == []
    assert re.fullmatch(f"pneumolit: .*{message}.*\n", outcome.err), outcome.err


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
