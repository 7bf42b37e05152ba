"""The wheel and the editable install find their configuration from any folder."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
CLEAN = {k: v for k, v in os.environ.items() if not k.startswith("PNEUMOLIT_")}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    subprocess.run(command, check=True, capture_output=True, env=CLEAN)
    return next(folder.glob("*.whl"))


@pytest.fixture(scope="module")
def installed_wheel(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def run(arguments: list[str], *, cwd: Path, site: Path | None = None) -> subprocess.CompletedProcess[str]:
    env = CLEAN | ({"PYTHONPATH": str(site)} if site is not None else {})
    return subprocess.run(
        [sys.executable, "-m", *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False
    )


def test_the_wheel_holds_every_yaml_file_and_no_tests(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    expected = {f"pneumolit/conf/{p.relative_to(REPOSITORY / 'conf')}" for p in (REPOSITORY / "conf").rglob("*.yaml")}
    assert expected and expected <= set(names)
    assert {"pneumolit/py.typed", "pneumolit/published.csv"} <= set(names)
    assert not [n for n in names if n.startswith(("tests/", "benchmarks/", "docs/"))]


@pytest.mark.parametrize(
    ("command", "key"), [("train", "cache_dir"), ("evaluate", "cache_dir"), ("backbones", "pattern")]
)
def test_a_command_of_the_wheel_works_from_another_folder(
    installed_wheel: Path, tmp_path: Path, command: str, key: str
) -> None:
    asked = "import pneumolit.config as c; print(c.CONFIG_DIR)"
    where = subprocess.run(
        [sys.executable, "-c", asked],
        cwd=tmp_path,
        env=CLEAN | {"PYTHONPATH": str(installed_wheel)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(where.stdout.strip()) == installed_wheel / "pneumolit" / "conf"
    result = run([f"pneumolit.{command}", "--cfg", "job"], cwd=tmp_path, site=installed_wheel)
    assert result.returncode == 0, result.stderr
    assert f"{key}:" in result.stdout


def test_the_installed_package_works_from_the_root_folder() -> None:
    result = run(["pneumolit.train", "--cfg", "job", "optim=sgd"], cwd=Path("/"))
    assert result.returncode == 0, result.stderr
    assert "torch.optim.SGD" in result.stdout


def test_an_option_of_the_users_own_config_folder_is_found(installed_wheel: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    recipe = "# @package _global_\ndefaults:\n  - override /optim: sgd\ntrainer:\n  max_epochs: 3\n"
    (tmp_path / "mine" / "experiment" / "short.yaml").write_text(recipe)
    arguments = ["pneumolit.train", "--config-dir", "mine", "experiment=short", "--cfg", "job"]
    result = run(arguments, cwd=tmp_path, site=installed_wheel)
    assert result.returncode == 0, result.stderr
    assert "torch.optim.SGD" in result.stdout and "max_epochs: 3" in result.stdout
    assert "experiment" not in result.stdout


def test_a_config_folder_that_does_not_exist_is_named(installed_wheel: Path, tmp_path: Path) -> None:
    result = run(["pneumolit.train", "--config-dir", "absent", "--cfg", "job"], cwd=tmp_path, site=installed_wheel)
    assert result.returncode != 0
    assert "absent" in result.stderr and "Traceback" not in result.stderr


def test_the_readme_s_list_of_files_names_every_module_there_is_and_no_other() -> None:
    readme = (REPOSITORY / "README.md").read_text()
    files = readme.split("## Files")[1].split("```")[1]
    folders = [path.parent.name for path in (REPOSITORY / "pneumolit").glob("*/__init__.py")]
    assert len(folders) > 8
    for folder in set(folders) - {"report"}:  # which names its modules by what their pages show
        listed = re.search(rf"pneumolit/{folder}/ +(.*?)\n(?=\S)", files, re.DOTALL)
        assert listed is not None
        named = set(re.findall(r"\w+", re.sub(r"\(.*?\)|:.*", "", listed[1])))
        assert named == {path.stem for path in (REPOSITORY / "pneumolit" / folder).glob("[!_]*.py")}, folder
    for path in (REPOSITORY / "pneumolit").glob("[!_]*.py"):
        assert path.name in files


def test_the_readme_s_commands_are_those_that_the_checks_run() -> None:
    readme, checks = ((REPOSITORY / name).read_text() for name in ("README.md", ".ci/run"))
    for command in (
        "python -m pneumolit.train experiment=demo test=true",
        "python -m pytest -n 2 --dist loadfile",
        "python -m pytest -m slow",
    ):
        assert command in readme and command in checks
    assert "pip install . &&" in readme and "pip install -e '.[test]' &&" in readme
