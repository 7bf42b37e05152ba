"""Run folders for the tests of a comparison."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from pneumolit.rundir import RunDir


@pytest.fixture(scope="session")
def made_runs() -> ModuleType:
    """The module that writes run folders."""
    spec = importlib.util.spec_from_file_location("made_runs", Path(__file__).with_name("made_runs.py"))
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def four_runs(made_runs: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> list[RunDir]:
    """Runs of different kinds on the same images; to be read only. The third is the best on validation."""
    root = tmp_path_factory.mktemp("runs")
    write = made_runs.write_run
    return [
        write(root / "a", noise=1.0, draw=0, settings={"backbone": "resnet18"}),
        write(root / "b", noise=2.0, draw=1, settings={"backbone": "resnet18"}, policy="head"),
        write(root / "c", noise=0.6, draw=2, settings={"backbone": "densenet121"}, labels=made_runs.BINARY),
        write(root / "d", noise=3.0, draw=3, settings={"backbone": "mlp", "model": {"pretrained": False}}),
    ]
