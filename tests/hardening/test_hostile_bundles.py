"""A bundle from somebody else: values that no export writes are named, before they are computed with."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.prediction.bundle import open_bundle

Command = Callable[..., Any]
HUGE = 10**400  # a whole number of JSON that no float holds


@pytest.fixture(scope="module")
def exported(small_run: Path, cache_dir: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    from pneumolit.exporting.run import export_model

    run = Path(shutil.copytree(small_run, tmp_path_factory.mktemp("exported") / "run"))
    cfg = {"run_dir": str(run), "onnx": False, "data": {"root": None}, "cache_dir": str(cache_dir)}
    export_model(cfg, run.parent / "bundle", Console(quiet=True))
    assert (run.parent / "bundle" / "reference.json").is_file()
    return run.parent / "bundle"


@pytest.fixture
def bundle(exported: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(exported, tmp_path / "bundle"))


def changed(content: Any, path: str, value: Any) -> Any:
    """A record with another value at a place such as `models.0.weight`."""
    *above, last = path.split(".")
    place = content
    for part in above:
        place = place[int(part)] if isinstance(place, list) else place[part]
    place[last] = value
    return content


CASES = [
    ("models", []),
    ("models", [3]),
    ("models.0.weight", HUGE),
    ("models.0.weight", -1),
    ("models.0.stored_side", HUGE),
    ("models.0.stored_side", 0),
    ("models.0.stored_side", 1e308),
    ("models.0.calibration", {"slope": 1, "intercept": HUGE, "prevalence": 0.5}),
    ("models.0.settings.seed", HUGE),
    ("models.0.settings.mean", None),
    ("models.0.settings.mean", [1, 2]),
    ("models.0.settings.std", "x"),
    ("models.0.settings.std", 0),
    ("models.0.settings.prior_log_odds", [1]),
    ("models.0.settings.prior_log_odds", HUGE),
    ("models.0.settings.drop_rate", None),
    ("models.0.settings.image_size", 10**8),
    ("models.0.settings.hidden", 10**9),
    ("calibration.slope", HUGE),
    ("calibration.intercept", None),
    ("validation_log_odds", [HUGE]),
    ("operating_points", [{"name": "primary", "threshold": "x", "rule": "r"}]),
    ("facts", 3),
    ("name", 3),
]


@pytest.mark.parametrize(("path", "value"), CASES, ids=[f"{path}={value!r:.20}" for path, value in CASES])
def test_a_bundle_with_a_value_that_none_has_is_refused_in_one_line(bundle: Path, path: str, value: Any) -> None:
    file = bundle / "bundle.json"
    file.write_text(json.dumps(changed(json.loads(file.read_text()), path, value)))
    with pytest.raises(ValueError, match=rf"bundle\.json is damaged.*: {path}.* is ") as refused:
        open_bundle(bundle)
    assert len(str(refused.value)) < 300 and "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("path", "value"),
    [("limits", {}), ("limits.turned", HUGE), ("rates", 3), ("rates.false_alarms", {}), ("rates.counted_on", None)],
)
def test_what_films_look_like_is_checked_as_well(bundle: Path, path: str, value: Any) -> None:
    file = bundle / "reference.json"
    file.write_text(json.dumps(changed(json.loads(file.read_text()), path, value)))
    with pytest.raises(ValueError, match=r"reference\.json is damaged"):
        open_bundle(bundle)


@pytest.mark.parametrize(("key", "value"), [("std", None), ("hidden", 10**9), ("seed", "x")])
def test_settings_in_a_checkpoint_are_checked_before_a_model_is_built(
    small_run: Path, tmp_path: Path, key: str, value: Any
) -> None:
    content = torch.load(small_run / "checkpoints" / "last.ckpt", weights_only=True)
    content["hyper_parameters"]["hparams"][key] = value
    torch.save(content, tmp_path / "changed.ckpt")
    with pytest.raises(ValueError, match=rf"changed\.ckpt is damaged: {key} is"):
        PneumoniaClassifier.from_checkpoint(tmp_path / "changed.ckpt")


def test_a_link_in_a_bundle_does_not_lead_out_of_it(bundle: Path, tmp_path: Path) -> None:
    (bundle / "reference.json").rename(tmp_path / "elsewhere.json")
    (bundle / "reference.json").symlink_to(tmp_path / "elsewhere.json")
    with pytest.raises(ValueError, match="is a link to"):
        open_bundle(bundle)


def test_names_in_a_bundle_do_not_steer_the_terminal(
    command: Command, bundle: Path, demo_root: Path, tmp_path: Path
) -> None:
    for name, path in (("bundle.json", "name"), ("reference.json", "rates.counted_on")):
        file = bundle / name
        file.write_text(json.dumps(changed(json.loads(file.read_text()), path, "\x1b[2J\x1b]0;theirs\x07")))
    film = next((demo_root / "test").rglob("*.jpeg"))
    done = command("predict", f"run_dir={bundle}", f"input={film}", f"output={tmp_path / 'o.csv'}")
    assert done.code == 0 and "\x1b" not in done.out and done.out.count("\\x1b[2J") >= 2, done.out
