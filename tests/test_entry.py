"""The layer before Hydra: paths stand for themselves, mistakes get one message with the nearest names."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pneumolit.entry import PATH_KEYS, known_keys, quote_path_value, run_command

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


def test_variables_that_could_be_secrets_are_not_read(
    command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CLOUD_TOKEN", "secret-value")
    outcome = command("train", "backbone=${oc.env:CLOUD_TOKEN}")
    assert outcome.code == 2
    assert "CLOUD_TOKEN; only variables that begin with PNEUMOLIT_" in outcome.err
    assert "secret-value" not in outcome.err + outcome.out


def test_own_config_directory_adds_options(command: Command, tmp_path: Path) -> None:
    own = tmp_path / "own"
    (own / "optim").mkdir(parents=True)
    (own / "optim" / "mine.yaml").write_text("_target_: torch.optim.AdamW\nlr: 0.5\nweight_decay: 0.0\n")
    outcome = command("train", "--config-dir", str(own), "optim=mine", "--cfg", "job")
    assert outcome.code == 0
    assert "lr: 0.5" in outcome.out
