"""Arguments of the benchmarks: typed, with one message for a mistake."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from benchmarks._common.arguments import read_arguments, to_arguments


@dataclass(frozen=True)
class Options:
    backbone: str
    rounds: int = 5
    seconds: float = 2.5
    sweep: bool = True
    steps: int | None = None
    data_root: Path | None = field(default=None, metadata={"key": "data.root"})


def test_values_have_the_types_of_the_fields(tmp_path: Path) -> None:
    words = ["backbone=a=b", "rounds=3", "seconds=0.5", "sweep=false", "steps=7", f"data.root={tmp_path}"]
    assert read_arguments(Options, words) == Options("a=b", 3, 0.5, False, 7, tmp_path)
    assert read_arguments(Options, ["backbone=x"]) == Options("x")


def test_a_relative_path_is_that_of_the_folder_the_user_stands_in(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Contenders run elsewhere.
    monkeypatch.chdir(tmp_path)
    assert read_arguments(Options, ["backbone=x", "data.root=films"]).data_root == tmp_path / "films"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["backbone=x", "round=3"], "unknown key round; did you mean rounds"),
        (["backbone=x", "rounds=many"], "rounds must be a whole number, got 'many'"),
        (["backbone=x", "sweep=yes"], "sweep must be true or false, got 'yes'"),
        (["backbone=x", "--fast"], "'--fast' cannot be read; arguments are key=value"),
        ([], "backbone is not set; give backbone=VALUE"),
    ],
)
def test_a_mistake_gets_one_message(words: list[str], message: str) -> None:
    with pytest.raises(SystemExit, match=message) as stop:
        read_arguments(Options, words)
    assert stop.value.code != 0


def test_help_lists_the_keys_as_they_are_typed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        read_arguments(Options, ["--help"], "what it does")
    assert stop.value.code == 0
    out = capsys.readouterr().out
    assert out.startswith("what it does") and "data.root=" in out and "rounds=5" in out


def test_options_survive_the_way_to_a_worker(tmp_path: Path) -> None:
    for options in (Options("x"), Options("a b", 1, 1e-3, False, 2, tmp_path / "a b=c")):
        assert read_arguments(Options, to_arguments(options)) == options
