"""A job's name follows from what it learns and from which data, and from nothing else."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from pneumolit.data.dataset import content_fingerprint
from pneumolit.sweep.fingerprint import Fingerprints

Configure = Callable[..., dict[str, Any]]


@pytest.fixture
def name(cache_dir: Path) -> Callable[[dict[str, Any]], str]:
    return Fingerprints(cache_dir).of


@pytest.mark.parametrize(
    "override",
    [
        "optim.lr=0.5", "optim=sgd", "seed=3", "data.batch_size=8", "data.folds=3", "data.val_fraction=0.3",
        "test=true", "trainer.max_epochs=3", "precision=bf16", "trainer.conv_gradients=library",
        "stages=[{epochs: 1}, {epochs: 1}]",
    ],
)  # fmt: skip
def test_what_changes_the_result_changes_the_name(
    override: str, tiny_config: Configure, name: Callable[..., str]
) -> None:
    assert name(tiny_config(override)) != name(tiny_config())


@pytest.mark.parametrize(
    "override",
    ["output_dir=elsewhere", "logger=none", "trainer.progress_bar=true", "trainer.accelerator=auto",
     "data.num_workers=2", "data.on_device=never", "model.allow_download=false", "report.language=ko"],
)  # fmt: skip
def test_places_devices_and_logging_do_not(override: str, tiny_config: Configure, name: Callable[..., str]) -> None:
    assert name(tiny_config(override)) == name(tiny_config())


def test_the_same_images_elsewhere_are_the_same_data_and_another_image_is_not(
    tiny_config: Configure, demo_root: Path, tmp_path: Path, cache_dir: Path
) -> None:
    moved = Path(shutil.copytree(demo_root, tmp_path / "moved"))
    before, after = tiny_config(), tiny_config(f"data.root={moved}")
    assert Fingerprints(cache_dir).of(before) == Fingerprints(cache_dir).of(after)
    victim = next((moved / "train" / "NORMAL").iterdir())
    other = next((moved / "train" / "PNEUMONIA").iterdir())
    victim.write_bytes(other.read_bytes())
    assert Fingerprints(cache_dir).of(before) != Fingerprints(cache_dir).of(after)


def test_another_label_in_a_manifest_is_other_data(
    tiny_config: Configure, demo_root: Path, tmp_path: Path, cache_dir: Path
) -> None:
    images = sorted(demo_root.glob("train/*/*"))
    names = []
    for turn in range(2):
        rows = [f"{path},{path.parent.name}" for path in images]
        rows[0] = f"{images[0]},PNEUMONIA" if turn else rows[0]
        manifest = tmp_path / f"{turn}.csv"
        manifest.write_text("\n".join(["path,label", *rows]))
        cfg = tiny_config("data=manifest", f"data.manifest={manifest}", f"data.root={demo_root}")
        names.append(Fingerprints(cache_dir).of(cfg))
    assert names[0] != names[1]


def test_each_data_set_is_read_once(tiny_config: Configure, cache_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pneumolit.sweep import fingerprint

    read: list[Any] = []
    real = content_fingerprint

    def watched(*arguments: Any) -> str:
        read.append(arguments)
        return real(*arguments)

    monkeypatch.setattr(fingerprint, "content_fingerprint", watched)
    names = Fingerprints(cache_dir)
    assert len({names.of(tiny_config(f"data.batch_size={size}")) for size in (8, 16, 32)}) == 3
    assert len(read) == 1
