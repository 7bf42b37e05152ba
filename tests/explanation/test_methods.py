"""Heat maps by the name of a method, with and without the libraries of the extra."""

from __future__ import annotations

import importlib.util
from typing import Any

import numpy as np
import pytest
import torch

from pneumolit.explanation.methods import CHOICES, check_method, choose_method, heat_of, is_of_pixels
from pneumolit.model.classifier import PneumoniaClassifier
from pneumolit.model.heatmap import NoMapError, last_map

SETTINGS: dict[str, Any] = {
    "backbone": "test_resnet", "classes": ["NORMAL", "PNEUMONIA"], "positive": ["PNEUMONIA"], "image_size": 96,
    "in_chans": 1, "drop_rate": 0.0, "mean": 0.5, "std": 0.25, "prior_log_odds": 0.0, "seed": 0,
    "loss": {"name": "cross_entropy"}, "augment": {}, "mixup_alpha": 0.0, "optim": {}, "scheduler": {},
}  # fmt: skip
IMAGES = np.random.default_rng(0).integers(256, size=(3, 96, 96), dtype=np.uint8)
SIDES = np.array(["pneumonia", "normal", "pneumonia"])
needs_grad_cam = pytest.mark.skipif(importlib.util.find_spec("pytorch_grad_cam") is None, reason="no grad-cam here")
needs_captum = pytest.mark.skipif(importlib.util.find_spec("captum") is None, reason="no captum here")


def classifier(**changes: Any) -> PneumoniaClassifier:
    torch.manual_seed(1)
    return PneumoniaClassifier({**SETTINGS, **changes}).eval()


def test_auto_takes_gradcam_where_there_is_a_map_and_saliency_where_there_is_none() -> None:
    assert choose_method(classifier(), "auto") == "gradcam"
    assert choose_method(classifier(backbone="logistic"), "auto") == "saliency"
    assert choose_method(classifier(image_size=32), "auto") == "saliency"  # one place tells nothing


def test_gradcam_of_a_single_place_is_refused_with_the_size() -> None:
    with pytest.raises(NoMapError, match=r"a map of 1 x 1 places for model\.image_size=32.*method=saliency"):
        choose_method(classifier(image_size=32), "gradcam")


def test_unknown_and_missing_methods_are_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match=r"method must be one of auto, gradcam, .*, got 'lime'"):
        check_method("lime")
    monkeypatch.setattr("pneumolit.explanation.methods.importlib.util.find_spec", lambda name: None)
    for method, package in (("layercam", "grad-cam"), ("occlusion", "captum")):
        with pytest.raises(ValueError, match=rf"method={method} needs the package {package}.*pneumolit\[explain\]"):
            check_method(method)
    check_method("gradcam")


def test_every_image_is_explained_for_its_own_side() -> None:
    model, told = classifier(), [0]
    heat = heat_of(model, IMAGES, SIDES, "gradcam", told.append)
    of_normal = heat_of(model, IMAGES, np.full(3, "normal"), "gradcam")
    # Of batches of other sizes: the last digits may differ.
    assert np.allclose(heat[1], of_normal[1], rtol=1e-4, atol=1e-6)
    assert not np.allclose(heat[0], of_normal[0], rtol=1e-2) and sum(told) == 3


@needs_grad_cam
def test_hirescam_is_the_product_of_map_and_gradient() -> None:
    # Draelos and Carin, 2020: without the mean over places that Grad-CAM takes of the gradient.
    model = classifier()
    found = last_map(model, torch.from_numpy(IMAGES).unsqueeze(1))
    expected = torch.nn.functional.interpolate(
        (found.activations * found.gradients).sum(1, keepdim=True).relu(), (96, 96), mode="bilinear"
    )[:, 0].numpy()
    assert heat_of(model, IMAGES, np.full(3, "pneumonia"), "hirescam") == pytest.approx(expected, abs=1e-6)


@needs_captum
def test_integrated_gradients_of_a_linear_model_are_weight_times_input() -> None:
    model = classifier(backbone="logistic")
    (weight,) = [p.detach().numpy() for p in model.parameters() if p.ndim == 2]
    expected = np.maximum((weight[1] - weight[0]).reshape(96, 96) / 0.25 * (IMAGES[0] / 255 - 0.5), 0)
    heat = heat_of(model, IMAGES[:1], SIDES[:1], "integrated_gradients")
    assert heat[0] == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("method", [method for method in CHOICES if method != "auto"])
def test_every_method_gives_heat_that_is_never_negative_and_leaves_the_model_alone(method: str) -> None:
    try:
        check_method(method)
    except ValueError as missing:
        pytest.skip(str(missing).partition(",")[0])
    model = classifier()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    heat = heat_of(model, IMAGES, SIDES, method)
    assert heat.shape == IMAGES.shape and (heat >= 0).all() and heat.max() > 0
    assert is_of_pixels(method) == (method in ("saliency", "integrated_gradients", "occlusion"))
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not any(module._forward_hooks for module in model.modules())
