"""The command that lists backbones: one table, one message, nothing left behind."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest


class Outcome(NamedTuple):
    """Exit code, standard output and error."""

    code: int
    out: str
    err: str


@pytest.fixture
def listed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Callable[..., Outcome]:
    """`listed("pattern=resnet*")`: run the command in this process, in an empty folder."""
    from pneumolit.backbones import backbones
    from pneumolit.entry import run_command

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", list(sys.argv))  # run_command replaces it

    def run(*arguments: str) -> Outcome:
        capsys.readouterr()
        code = 0
        try:
            run_command("backbones", backbones, arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err)

    return run


def test_table_has_a_line_per_backbone_in_columns_and_says_how_many(listed: Callable[..., Outcome]) -> None:
    result = listed("pattern=*_cnn*")
    assert result.code == 0 and result.err == ""
    lines = result.out.splitlines()
    rows = [line.split() for line in lines if "cnn" in line]
    assert rows == [
        ["baseline_cnn", "128", "fixed", "none", "apache-2.0"],
        ["baseline_cnn_bn", "128", "fixed", "none", "apache-2.0"],
        ["baseline_cnn_keras_bn", "128", "fixed", "none", "apache-2.0"],
        ["two_layer_cnn", "224", "fixed", "none", "apache-2.0"],
    ]
    assert len({line.index("none") for line in lines if " none " in line}) == 1  # aligned
    assert "4 backbones, 0 with weights on this machine" in result.out


def test_long_names_are_not_cut_in_a_pipe(listed: Callable[..., Outcome]) -> None:
    name = "vit_large_patch14_clip_336.openai_ft_in12k_in1k"
    rows = [line.split() for line in listed(f"pattern={name}").out.splitlines() if name in line]
    assert rows == [[name, "336", "fixed", "hub", "apache-2.0"]]


def test_weights_that_are_here_are_counted(listed: Callable[..., Outcome]) -> None:
    assert "1 backbone, 1 with weights on this machine" in listed("pattern=tf_efficientnet_lite0").out


def test_unknown_pattern_is_one_line_with_the_nearest_names(listed: Callable[..., Outcome]) -> None:
    result = listed("pattern=desnet201")
    assert result.code == 2 and result.out == ""
    assert result.err.startswith("pneumolit: pattern=desnet201 matches none of ")
    assert "did you mean densenet201" in result.err and result.err.count("\n") == 1


@pytest.mark.parametrize("argument", ["pattern=[ab,c]", "pattern={a:b}"])
def test_pattern_that_the_command_line_reads_as_a_list_is_explained(
    listed: Callable[..., Outcome], argument: str
) -> None:
    result = listed(argument)
    assert result.code == 2
    assert "pattern must be one text" in result.err


def test_number_is_a_pattern_too(listed: Callable[..., Outcome]) -> None:
    assert "densenet121.tv_in1k" in listed("pattern=121").out


@pytest.mark.parametrize("pattern", ["two_layer_cnn", "nothing_of_this_name"])
def test_nothing_is_left_behind(listed: Callable[..., Outcome], tmp_path: Path, pattern: str) -> None:
    listed(f"pattern={pattern}")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "outputs" / "train").mkdir(parents=True)
    listed(f"pattern={pattern}")
    assert sorted(tmp_path.rglob("*")) == [tmp_path / "outputs", tmp_path / "outputs" / "train"]


@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job")], ids=["help", "cfg"])
def test_help_and_cfg_import_no_torch_and_leave_nothing(arguments: tuple[str, ...], tmp_path: Path) -> None:
    line = [sys.executable, "-X", "importtime", "-m", "pneumolit.backbones", *arguments]
    result = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=True)
    roots = {row.rpartition("|")[2].strip().split(".")[0] for row in result.stderr.splitlines()}
    assert "hydra" in roots
    assert not roots & {"torch", "timm", "pytorch_lightning", "matplotlib", "torchvision"}
    assert "pattern: '*'" in result.stdout
    assert list(tmp_path.iterdir()) == []
