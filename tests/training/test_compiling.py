"""torch.compile: only on request, the same weights by name, and one message where it cannot work."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from pneumolit.rundir import RunDir
from pneumolit.training import stages
from pneumolit.training.compiling import compile_backbone, compiler_errors_explained

Configure = Callable[..., dict[str, Any]]
Train = Callable[..., RunDir]
QUICK = ("data.stress=false", "logger=none", "trainer.limit_train_batches=2", "trainer.max_epochs=1")


def test_a_compiled_model_keeps_the_names_of_its_weights() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.ReLU())
    names = list(model.state_dict())
    compile_backbone(model)
    assert list(model.state_dict()) == names


def test_failures_of_the_compiler_become_one_message_with_the_way_out() -> None:
    from torch._inductor.exc import InvalidCxxCompiler

    with pytest.raises(ValueError, match=r"cannot be compiled here: .*compiler.*set trainer\.compile=false"):  # noqa: SIM117
        with compiler_errors_explained():
            raise InvalidCxxCompiler


def test_other_errors_pass_as_they_are() -> None:
    with pytest.raises(RuntimeError, match="out of memory"), compiler_errors_explained():
        raise RuntimeError("out of memory")


@pytest.mark.parametrize("choice", [True, False])
def test_only_a_run_that_asks_for_it_is_compiled(
    choice: bool, tiny_config: Configure, train_run: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[nn.Module] = []
    monkeypatch.setattr(stages, "compile_backbone", seen.append)
    train_run(tiny_config(*QUICK, f"trainer.compile={str(choice).lower()}"), tmp_path / "run")
    assert len(seen) == choice


@pytest.mark.slow
def test_a_compiled_run_learns_what_a_plain_one_learns(
    tiny_config: Configure, train_run: Train, tmp_path: Path
) -> None:
    runs = [
        train_run(tiny_config(*QUICK, f"trainer.compile={way}", "backbone=logistic"), tmp_path / way)
        for way in ("true", "false")
    ]
    states = [torch.load(run.checkpoint("last"), weights_only=True)["state_dict"] for run in runs]
    assert states[0].keys() == states[1].keys()
    for name, value in states[0].items():
        torch.testing.assert_close(value, states[1][name], msg=name)
