"""What Hydra says about a mistake becomes one line with the nearest names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pneumolit.hydra_errors import explain_hydra_error, known_keys

Command = Callable[..., Any]


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
        ("experiment=worst", r"experiment=worst is no option"),
        ("seed=[1,2", r"an argument cannot be read"),
        ("seed", r"seed is no argument, which are key=value; see --help"),
        ("lesson/patient_split", r"; did you mean experiment=lesson/patient_split\?"),
        ("demo", r"demo is no argument, which are key=value; did you mean data=demo or experiment=demo\?"),
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
        ("experiment=study_b", r"study_b is no option but a folder of them: .*study_b/resnet50v2_two_stage,"),
        ("experiment=study_d/baseline_12", r"did you mean study_d/baseline_128.*study_d/by_patients/baseline_128"),
        ("experiment=study_e/v7", r"experiment=study_e/v7 is no option.*study_e/v6"),
        ("experiment=study_z/v1", r"experiment=study_z/v1 is no option"),
        ("experiment=study_d/dropout_3", r"did you mean study_d/dropout_\d(?!.*/_base)"),
        ("experiment=demoo", r"did you mean demo.*the options are best, .*demo, .*study_b/\.\.\. \(8\)(?!.*/v6)"),
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


def test_folder_without_its_key_is_taken_for_a_run(command: Command, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    outcome = command("evaluate", str(tmp_path / "run"))
    assert outcome.code == 2 and outcome.left == []
    assert outcome.err.count("\n") == 1 and f"did you mean run_dir={tmp_path / 'run'}?" in outcome.err
