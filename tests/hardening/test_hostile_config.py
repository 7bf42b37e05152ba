"""Options from somebody else, and the config of a stranger's run, run no code and read no secret."""

from __future__ import annotations

import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.conftest import TINY

Command = Callable[..., Any]
SECRET = "hunter2-of-nobody"


@pytest.fixture
def given(demo_root: Path, tmp_path: Path) -> tuple[str, ...]:
    return ("train", f"data.root={demo_root}", *TINY, "trainer.max_epochs=1", f"hydra.run.dir={tmp_path / 'run'}")


def option(folder: Path, group: str, content: dict[str, Any], *, package: str = "") -> str:
    """A folder of options with one of that group."""
    (folder / group).mkdir(parents=True, exist_ok=True)
    head = f"# @package {package}\n" if package else ""
    (folder / group / "theirs.yaml").write_text(head + yaml.safe_dump(content))
    return str(folder)


TARGETS = [
    "os.system", "logging.os.system", "builtins.eval", "sympy.sympify", "pathlib.Path.write_text", "numpy.load",
    "torch.hub.load", "subprocess.run", "torch.optim.lr_scheduler.os.system", "timm.optim.optim_factory.os.system",
]  # fmt: skip


@pytest.mark.parametrize("target", TARGETS)
def test_a_target_outside_of_the_allowed_packages_is_refused_from_the_command_line_and_from_a_folder(
    command: Command, given: tuple[str, ...], tmp_path: Path, target: str
) -> None:
    marker = tmp_path / "it_ran"
    content = {"_target_": target, "lr": 0.1, "weight_decay": 0.0, "command": f"touch {marker}"}
    folder = option(tmp_path / "theirs", "optim", content)
    for arguments in ((f"optim._target_={target}",), ("--config-dir", folder, "optim=theirs")):
        done = command(*given, *arguments)
        assert done.code == 2 and done.err.count("\n") == 1 and target in done.err, done.err
        assert not marker.exists()


def test_a_module_that_lies_about_being_an_optimizer_is_not_even_imported(
    command: Command, given: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    marker = tmp_path / "it_ran"
    (tmp_path / "planted.py").write_text(
        f"open({str(marker)!r}, 'w').close()\nimport torch\n\n\nclass Optimizer(torch.optim.SGD):\n    pass\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    done = command(*given, "optim=sgd", "optim._target_=planted.Optimizer")
    assert not marker.exists()
    assert done.code == 2 and "optim._target_=planted.Optimizer is refused" in done.err, done.err


@pytest.mark.parametrize(
    "content",
    [
        {"callbacks": {"mine": {"_target_": "os.mkdir", "path": "it_ran"}}},
        {"scheduler": {"_target_": "os.mkdir", "path": "it_ran"}},
        {"augment": {"_target_": "os.mkdir", "path": "it_ran"}},
        {"trainer": {"plugins": [{"_target_": "os.mkdir", "path": "it_ran"}]}},
        {"model": {"_target_": "os.mkdir", "path": "it_ran", "_args_": ["it_ran"]}},
    ],
    ids=["callbacks", "scheduler", "augment", "in a list", "model"],
)
def test_a_target_anywhere_in_a_recipe_calls_nothing(
    command: Command, given: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: dict[str, Any]
) -> None:
    monkeypatch.chdir(tmp_path)
    folder = option(tmp_path / "theirs", "experiment", content, package="_global_")
    done = command(*given, "--config-dir", folder, "experiment=theirs")
    assert not (tmp_path / "it_ran").exists()
    assert done.code == 2 and "Traceback" not in done.err, (done.out[-500:], done.err)


# What Hydra itself would call, before a command of ours begins.
HYDRAS: dict[str, dict[str, Any]] = {
    "a callback": {"hydra": {"callbacks": {"theirs": {"_target_": "os.mkdir", "path": "it_ran"}}}},
    "a launcher": {"hydra": {"launcher": {"_target_": "os.mkdir", "path": "it_ran"}}},
    "a sweeper": {"hydra": {"sweeper": {"_target_": "os.mkdir", "path": "it_ran"}}},
    "a handler of logs": {
        "hydra": {"job_logging": {"version": 1, "handlers": {"theirs": {"()": "os.mkdir", "path": "it_ran"}}}}
    },
    "a file of logs": {
        "hydra": {
            "job_logging": {
                "version": 1,
                "handlers": {"theirs": {"class": "logging.FileHandler", "filename": "it_ran"}},
                "root": {"handlers": ["theirs"]},
            }
        }
    },
    "a folder": {"hydra": {"run": {"dir": "it_ran"}}},
    "a folder below": {"hydra": {"output_subdir": "../it_ran"}},
    "a folder of sweeps": {"hydra": {"sweep": {"dir": "it_ran"}}},
    "a job's name": {"hydra": {"job": {"name": "../it_ran"}}},
    "a variable": {"hydra": {"job": {"env_set": {"LD_PRELOAD": "theirs.so"}}}},
}


@pytest.mark.parametrize("what", HYDRAS)
def test_options_from_somebody_else_do_not_make_hydra_run_what_they_name(
    given: tuple[str, ...], tmp_path: Path, what: str
) -> None:
    folder = option(tmp_path / "theirs", "experiment", HYDRAS[what], package="_global_")
    # On the command line the folder is the user's own.
    own = [text for text in given[1:] if what != "a folder" or not text.startswith("hydra.run.dir=")]
    line = [sys.executable, "-m", "pneumolit.train", "--config-dir", folder, "experiment=theirs", *own]
    done = subprocess.run(line, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert not (tmp_path / "it_ran").exists()
    assert done.returncode == 2 and done.stderr.count("\n") == 1, done.stderr
    assert "is refused" in done.stderr or what == "a sweeper", done.stderr  # to which Hydra itself lets no key be added


@pytest.mark.parametrize(
    "text",
    [
        "${oc.env:AWS_SECRET_ACCESS_KEY}",
        "${oc.env:'AWS_SECRET_ACCESS_KEY'}",
        "${oc.env:${oc.decode:\"'AWS_SECRET_ACCESS_KEY'\"}}",  # no name after oc.env that could be found in the text
    ],
    ids=["plain", "in quotes", "out of sight"],
)
def test_a_secret_of_the_environment_reaches_neither_files_nor_messages(
    command: Command, given: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    folder = option(
        tmp_path / "theirs", "experiment", {"callbacks": {"checkpoint": {"monitor": text}}}, package="_global_"
    )
    for arguments in (("--config-dir", folder, "experiment=theirs"), (f"+data.note={text}",)):
        done = command(*given, *arguments)
        assert done.code == 2, done.out
        assert SECRET not in done.out + done.err
    written = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert written == []


def test_the_config_of_a_strangers_run_is_read_as_plain_values(
    command: Command, copied_run: Path, demo_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET)
    config = copied_run / "config.yaml"
    own = config.read_text()
    harms = [
        own + "harm: !!python/object/apply:os.mkdir ['it_ran']\n",
        own.replace("torch.optim.AdamW", "os.mkdir"),
        own + "harm: ${oc.env:AWS_SECRET_ACCESS_KEY}\n",
    ]
    for number, text in enumerate(harms):
        config.write_text(text)
        for line in (
            ("predict", f"run_dir={copied_run}", f"input={demo_root / 'test'}", "output=o.csv", "checks=false"),
            ("evaluate", f"run_dir={copied_run}", "split=val", "rescore=true"),
            ("export", f"run_dir={copied_run}", f"output={tmp_path / f'bundle{number}'}"),
            ("train", f"run_dir={copied_run}"),
        ):
            done = command(*line)
            assert not (tmp_path / "it_ran").exists()
            assert done.code in (0, 2) and "Traceback" not in done.err and SECRET not in done.out + done.err, done.err
            if number == 0:
                assert done.code == 2 and done.err.count("\n") == 1, done.err
    shutil.rmtree(copied_run / "tensorboard", ignore_errors=True)
    found = [path for path in tmp_path.rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert found == []


@pytest.mark.parametrize(
    "name", ["status.json", "data.json", "calibration.json", "evaluation/val/metrics.json", "reference.json"]
)
@pytest.mark.parametrize("text", ["", "[" * 100_000, '"text"', "[]", '{"a": NaN', "\0\1\2"], ids=range(6))
def test_a_record_that_holds_something_else_is_named(
    command: Command, copied_run: Path, demo_root: Path, name: str, text: str
) -> None:
    (copied_run / name).write_text(text)
    (copied_run / "reference.safetensors").write_bytes(b"x")
    for line in (
        ("predict", f"run_dir={copied_run}", f"input={demo_root / 'test'}", "output=-"),
        ("evaluate", f"run_dir={copied_run}", "split=val"),
    ):
        done = command(*line)
        assert "Traceback" not in done.err
        is_needed = name == "calibration.json" or (name, line[0]) == ("data.json", "predict")
        may_be = (2,) if is_needed else (0, 2)
        assert done.code in may_be and (done.code == 0 or done.err.startswith("pneumolit: ")), (done.code, done.err)
        if done.code == 2:
            assert done.err.count("\n") == 1 and (Path(name).name in done.err or str(copied_run) in done.err), done.err
