"""What many tests share: phantoms, composed configurations, a finished run, commands run in this process."""

from __future__ import annotations

import copy
import gc
import io
import os
import shutil
import signal
import subprocess
import sys
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import settings
from PIL import Image

Compose = Callable[..., dict[str, Any]]

if "PYTEST_XDIST_WORKER" in os.environ:
    # Two processes of several threads each on the same cores wait for one another. To be set before torch is imported.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # Shells start what runs in the background so, and the processes of tests that press Ctrl-C would inherit it.
    signal.signal(signal.SIGINT, signal.default_int_handler)

# A busy machine takes longer than 200 ms for an example now and then; tests that time something say so.
settings.register_profile("untimed", parent=settings(), deadline=None)
settings.load_profile("untimed")

# The smallest thing that still trains: seconds per run.
TINY = (
    "backbone=test_resnet",
    "model.pretrained=false",
    "model.image_size=32",
    "data.batch_size=16",
    "data.val_fraction=0.25",
    "data.store_size=64",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "trainer.progress_bar=false",
    "precision=float32",
)


def let_go(processes: list[subprocess.Popen[str]]) -> None:
    """Let processes that have said `ready` go on at the same moment."""
    for process in processes:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()


def pytest_collection_finish() -> None:
    """What the tests' modules have imported stays: left out of later collections of garbage, it costs no time there."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish() -> None:
    gc.unfreeze()


@pytest.fixture(autouse=True)
def no_settings_of_the_developer(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("PNEUMOLIT_DATA", "PNEUMOLIT_OUT", "PNEUMOLIT_CACHE", "HYDRA_FULL_ERROR"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real images and weights; read only."""
    folder = Path(os.environ.get("PNEUMOLIT_SHARED", Path(__file__).resolve().parents[2] / "shared"))
    if not folder.is_dir():
        pytest.skip(f"no real data: {folder} is not there; set PNEUMOLIT_SHARED")
    return folder


# A set in the Kaggle layout with every kind of name: 20 normal and 33 pneumonia patients in train, one film each.
SMALL_KAGGLE = {
    "train/NORMAL": [f"IM-{n:04d}-0001.jpeg" for n in range(115, 127)]
    + [f"NORMAL2-IM-{n:04d}-0001-0001.jpeg" for n in range(383, 391)],
    "train/PNEUMONIA": [f"person{n}_bacteria_{n + 900}.jpeg" for n in range(1, 22)]
    + [f"person{n}_virus_{n + 90}.jpeg" for n in range(447, 458)]
    + ["person459_virus_921_1.jpeg"],
    "val/NORMAL": ["NORMAL2-IM-1427-0001.jpeg", "NORMAL2-IM-1430-0001.jpeg"],
    "val/PNEUMONIA": ["person1946_bacteria_4874.jpeg", "person1946_bacteria_4875.jpeg"],
    "test/NORMAL": [f"IM-{n:04d}-0001.jpeg" for n in range(1, 5)],
    "test/PNEUMONIA": [f"person{n}_bacteria_{n}.jpeg" for n in (78, 79)] + ["person1_virus_6.jpeg"],
}


@pytest.fixture(scope="session")
def write_films() -> Callable[..., Path]:
    """`write_films(root, {folder: names}, side=24)`: a different noisy film for every name, its suffix the format."""

    def written(root: Path, names: Mapping[str, Sequence[str]] = SMALL_KAGGLE, side: int = 24) -> Path:
        for folder, films in names.items():
            (root / folder).mkdir(parents=True, exist_ok=True)
            for name in films:
                rng = np.random.default_rng(zlib.crc32(f"{folder}/{name}".encode()))
                Image.fromarray(rng.integers(0, 256, (side, side), dtype=np.uint8)).save(root / folder / name)
        return root

    return written


@pytest.fixture(scope="session")
def demo_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 training and 16 test patients in the Kaggle layout, 64 px."""
    from pneumolit.data.demo import make_demo

    folder = tmp_path_factory.mktemp("demo") / "phantoms"
    return make_demo(folder, seed=0, num_train_patients=40, num_test_patients=16, size=64)


@pytest.fixture(scope="session")
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One cache for the whole session: images are decoded once."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="session")
def compose_config() -> Compose:
    """`compose_config(*overrides, name="train")`: a composed, resolved configuration as plain values."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import OmegaConf

    from pneumolit.composition import register_resolvers
    from pneumolit.config import CONFIG_DIR
    from pneumolit.entry import quote_path_value
    from pneumolit.stage_plan import expand_stages

    register_resolvers()

    known: dict[tuple[str, ...], dict[str, Any]] = {}  # many tests start from one and the same configuration

    def composed(*overrides: str, name: str = "train") -> dict[str, Any]:
        settings = (f"{key}={value}" for key, value in sorted(os.environ.items()) if key.startswith("PNEUMOLIT_"))
        key = (name, *overrides, "", *settings)
        if key not in known:
            known[key] = composed_anew(*overrides, name=name)
        return copy.deepcopy(known[key])

    def composed_anew(*overrides: str, name: str) -> dict[str, Any]:
        GlobalHydra.instance().clear()
        with initialize_config_dir(str(CONFIG_DIR), version_base="1.3"):
            cfg = compose(name, overrides=[quote_path_value(o) for o in overrides])
        plain = OmegaConf.to_container(cfg, resolve=True)
        assert isinstance(plain, dict)
        return expand_stages(
            {str(k): v for k, v in plain.items() if k not in ("resume", "run_dir", "sweep")}, load_option
        )

    def load_option(group: str, option: str) -> dict[str, Any]:
        return dict(composed(f"{group}={option}")[group])

    return composed


@pytest.fixture(scope="session")
def tiny_config(compose_config: Compose, demo_root: Path, cache_dir: Path) -> Compose:
    """`tiny_config(*overrides)`: a run of seconds on the phantoms."""

    def composed(*overrides: str) -> dict[str, Any]:
        return compose_config(f"data.root={demo_root}", f"cache_dir={cache_dir}", *TINY, *overrides)

    return composed


@pytest.fixture(scope="session")
def small_run(tiny_config: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of one finished run with `test=true`; to be read only. Its ledger lies two folders up."""
    from rich.console import Console

    from pneumolit.training.fit import fit

    out = tmp_path_factory.mktemp("out")
    folder = out / "train" / "first"
    fit(tiny_config("test=true", f"output_dir={out}"), folder, Console(file=io.StringIO()))
    return folder


@pytest.fixture(scope="session")
def other_run(tiny_config: Compose, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a finished run without `test`, with other choices everywhere; to be read only."""
    from rich.console import Console

    from pneumolit.training.fit import fit

    out = tmp_path_factory.mktemp("other_out")
    folder = out / "train" / "other"
    cfg = tiny_config(
        "freeze=head", "optim=sgd", "callbacks=early_stopping", "augment=none", "scheduler=constant",
        "data.stress=false", "data.target=binary", "data.balance=none", "data.holdout_fraction=0.2",
        "loss.class_weight=balanced", "callbacks.ema.decay=null", "seed=1", f"output_dir={out}",
    )  # fmt: skip
    fit(cfg, folder, Console(file=io.StringIO()))
    return folder


@pytest.fixture
def copied_run(small_run: Path, tmp_path: Path) -> Path:
    """A copy of the finished run that a test may change."""
    return Path(shutil.copytree(small_run, tmp_path / "out" / "train" / "copied"))


class Trained(NamedTuple):
    """What `train_only` leaves."""

    trainer: Any
    model: Any
    run: Any


@pytest.fixture(scope="session")
def train_only() -> Callable[..., Trained]:
    """`train_only(cfg, folder, callbacks=(), precision="float32")`: the training of one stage, without all that
    comes before and after.
    """
    from rich.console import Console

    from pneumolit.data.dataset import load_data
    from pneumolit.rundir import RunDir
    from pneumolit.stage_plan import plan_stages
    from pneumolit.training.build import build_datamodule, build_model, build_trainer, check_names, quiet_lightning
    from pneumolit.training.callbacks import build_callbacks

    def train(cfg: dict[str, Any], folder: Path, callbacks: Sequence[Any] = (), precision: str = "float32") -> Trained:
        datamodule = build_datamodule(cfg, load_data(cfg["data"], Path(cfg["cache_dir"])))
        model, _, _ = build_model(cfg, check_names(cfg), datamodule)
        run = RunDir(folder)
        stage = plan_stages(cfg)[0]
        own = build_callbacks(
            cfg["callbacks"], run, Console(file=io.StringIO()), stage,
            epochs_before=0, steps_before=0, epochs=stage.epochs, is_live=False,
        )  # fmt: skip
        with quiet_lightning():
            trainer = build_trainer(cfg, run, own, None, accelerator="cpu", precision=precision)
            trainer.callbacks.extend(callbacks)  # type: ignore[attr-defined]
            trainer.fit(model.use_channels_last(), datamodule=datamodule)
        return Trained(trainer, model, run)

    return train


class Outcome(NamedTuple):
    """What a command left: exit code, standard output and error, and the files and folders below its output folder."""

    code: int
    out: str
    err: str
    left: list[Path]


@pytest.fixture
def command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path, cache_dir: Path
) -> Iterator[Callable[..., Outcome]]:
    """`command("train", "key=value", ...)`: run a command in this process; importing torch anew takes seconds."""
    from pneumolit import audit, compare, evaluate, export, predict, train, tune
    from pneumolit.entry import run_command

    out = tmp_path / "out"
    monkeypatch.setenv("PNEUMOLIT_OUT", str(out))
    monkeypatch.setenv("PNEUMOLIT_CACHE", str(cache_dir))
    monkeypatch.setattr(sys, "argv", list(sys.argv))  # run_command replaces it
    tasks = {
        "train": train.train,
        "evaluate": evaluate.evaluate,
        "compare": compare.compare,
        "tune": tune.tune,
        "predict": predict.predict,
        "export": export.export,
        "audit": audit.audit,
    }

    def run(name: str, *arguments: str) -> Outcome:
        capsys.readouterr()
        code = 0
        try:
            run_command(name, tasks[name], arguments)
        except SystemExit as stop:
            code = int(stop.code or 0)
        captured = capsys.readouterr()
        return Outcome(code, captured.out, captured.err, sorted(out.rglob("*")) if out.is_dir() else [])

    yield run
