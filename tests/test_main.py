"""`python -m pneumolit` says what the commands are, at once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import pneumolit
from pneumolit.__main__ import describe, list_commands

COMMANDS = ("backbones", "train", "tune", "evaluate", "compare", "explain", "predict", "export", "audit")
PRESENT = {name for name in COMMANDS if (Path(pneumolit.__file__).parent / f"{name}.py").is_file()}


def test_every_command_is_listed_with_what_it_does() -> None:
    assert set(list_commands()) == PRESENT
    text, code = describe([])
    assert code == 0 and describe(["--help"]) == (text, 0)
    for name, what in list_commands().items():
        assert len(what) > 20 and f"python -m pneumolit.{name} " in text and what in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["trian"], "trian is no command; did you mean python -m pneumolit.train?; the commands are audit, backbones"),
        (["xyz", "seed=1"], "xyz is no command; the commands are audit, backbones"),
        (["train", "data.root=a b"], "a dot joins the two words: python -m pneumolit.train 'data.root=a b'"),
    ],
)
def test_any_other_word_is_refused_with_the_way_out(arguments: list[str], message: str) -> None:
    text, code = describe(arguments)
    assert code == 2 and text.startswith(f"pneumolit: {message}") and "\n" not in text


def test_the_list_needs_neither_hydra_nor_torch(tmp_path: Path) -> None:
    line = [sys.executable, "-X", "importtime", "-m", "pneumolit"]
    result = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=True)
    roots = {row.rpartition("|")[2].strip().split(".")[0] for row in result.stderr.splitlines()}
    assert "pneumolit" in roots and not roots & {"hydra", "omegaconf", "torch", "numpy", "yaml"}
    refused = subprocess.run([*line[:1], *line[3:], "word"], capture_output=True, text=True, cwd=tmp_path, check=False)
    assert (refused.returncode, refused.stdout) == (2, "") and refused.stderr.count("\n") == 1
