"""The shape of the package: imports run one way, help is quick, every option of every group composes."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

import pneumolit
from pneumolit.config import CONFIG_DIR
from pneumolit.stage_plan import check_run
from tests.processor_time import children_seconds, times_slower

PACKAGE = Path(pneumolit.__file__).parent
# DESIGN section 2; a number may import its own and lower ones.
LEVELS = {
    "": 0, "allocator": 0, "cores": 0, "interrupts": 0, "labels": 0, "predictions": 0, "rundir": 0, "config": 0,
    "run_checks": 0, "stage_plan": 0,
    "data": 1, "model": 2, "evaluation": 3, "report": 3, "scoring": 4, "training": 5, "comparison": 5, "sweep": 6,
    "explanation": 6, "prediction": 6, "auditing": 6, "lessons": 6, "exporting": 7, "search": 7,
    "hydra_errors": 8, "foreign_options": 8, "composition": 8, "multirun": 8, "entry": 8, "__main__": 8,
}  # fmt: skip
COMMAND_LEVEL = 9
COMMANDS = ("backbones", "train", "tune", "evaluate", "compare", "explain", "predict", "export", "audit")
PRESENT = [name for name in COMMANDS if (PACKAGE / f"{name}.py").is_file()]


def part_of(module: str) -> str:
    """`pneumolit.data.store` -> `data`."""
    return [*module.split("."), ""][1]


def modules() -> Iterator[tuple[str, Path]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        names = ["pneumolit", *path.relative_to(PACKAGE).with_suffix("").parts]
        yield ".".join(names).removesuffix(".__init__"), path


def imported(path: Path) -> set[str]:
    """Every module that is imported anywhere in a file, inside functions too."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide the direction"
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def level_of(part: str) -> int:
    assert part in LEVELS or part in COMMANDS, f"{part} has no place in LEVELS"
    return LEVELS.get(part, COMMAND_LEVEL)


def test_imports_never_look_upward() -> None:
    upward = [
        f"{module} imports {name}"
        for module, path in modules()
        for name in imported(path)
        if name.startswith("pneumolit") and level_of(part_of(name)) > level_of(part_of(module))
        and part_of(name) != "__version__"
        and module != "pneumolit"  # `pneumolit.load`, which imports when it is called
    ]  # fmt: skip
    assert upward == []


def test_commands_never_import_one_another() -> None:
    for command in PRESENT:
        others = {part_of(n) for n in imported(PACKAGE / f"{command}.py") if n.startswith("pneumolit.")}
        assert not others & set(COMMANDS)


def test_evaluation_needs_numbers_only() -> None:
    for path in (PACKAGE / "evaluation").glob("*.py"):
        roots = {name.split(".")[0] for name in imported(path)}
        assert not roots & {"torch", "matplotlib", "pytorch_lightning", "timm", "pathlib", "os"}, path
        assert not any(part_of(n) in {"data", "model", "report", "rundir"} for n in imported(path) if "pneumolit" in n)


def test_every_module_says_what_it_is_for() -> None:
    assert [name for name, path in modules() if not ast.get_docstring(ast.parse(path.read_text()))] == []


@pytest.mark.parametrize("command", PRESENT)
@pytest.mark.parametrize("arguments", [("--help",), ("--cfg", "job")], ids=["help", "cfg"])
def test_help_and_cfg_take_at_most_a_second_and_import_no_torch(
    command: str, arguments: tuple[str, ...], tmp_path: Path
) -> None:
    line = [sys.executable, "-X", "importtime", "-m", f"pneumolit.{command}", *arguments]
    if command == "evaluate":
        line.append("run_dir=x")
    first = subprocess.run(line, capture_output=True, text=True, cwd=tmp_path, check=True)
    roots = {row.rpartition("|")[2].strip().split(".")[0] for row in first.stderr.splitlines()}
    assert "hydra" in roots
    assert not roots & {"torch", "pytorch_lightning", "timm", "matplotlib", "sklearn", "scipy", "torchvision"}
    assert first.stdout.strip()
    assert list(tmp_path.iterdir()) == []
    ratios = []
    for _ in range(3):
        slower = times_slower()
        before = children_seconds()
        subprocess.run([line[0], *line[3:]], capture_output=True, cwd=tmp_path, check=True)
        ratios.append((children_seconds() - before) / slower)
        if ratios[-1] <= 1.0:
            break
    assert min(ratios) <= 1.0


def options() -> Iterator[tuple[str, str]]:
    for folder in sorted(p for p in CONFIG_DIR.iterdir() if p.is_dir() and p.name not in {"hydra", "sweep", "search"}):
        for file in sorted(folder.rglob("*.yaml")):
            if not file.name.startswith("_"):
                yield folder.name, file.relative_to(folder).with_suffix("").as_posix()


@pytest.mark.parametrize(("group", "option"), list(options()))
def test_every_option_composes_is_sound_and_leaves_no_experiment_key(
    compose_config: Callable[..., dict[str, Any]], group: str, option: str
) -> None:
    # The only option that the defaults leave without effect, and say so.
    needs = ["data.balance=none"] if option == "logit_adjusted" else []
    cfg = compose_config(f"{group}={option}", *needs)
    assert "experiment" not in cfg and "hydra" not in cfg
    check_run(cfg)
    if group == "data":
        assert compose_config(f"data={option}", "run_dir=x", name="evaluate")["data"]["source"]
    first = (CONFIG_DIR / group / f"{option}.yaml").read_text().splitlines()[0]
    assert group != "experiment" or first == "# @package _global_"


def test_presets_of_augmentation_are_taken_by_the_class_that_reads_them(
    compose_config: Callable[..., dict[str, Any]],
) -> None:
    from pneumolit.training.build import check_names

    for file in (CONFIG_DIR / "augment").glob("*.yaml"):
        check_names(compose_config(f"augment={file.stem}"))
