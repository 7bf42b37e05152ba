"""An ONNX file of a scorer: preprocessing and calibration inside, any number of films at a time."""

from __future__ import annotations

import contextlib
import importlib.util
import io
import json
import logging
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pneumolit.exporting.graph import FilmToProbability
from pneumolit.labels import negative_word
from pneumolit.prediction.scorer import Scorer

OPSET = 20
TOLERANCE = 1e-4  # of a probability, between the file and the model that it was made from


def check_packages() -> None:
    """Refuse before anything is written.

    Raises:
        ValueError: a package is missing.
    """
    for name in ("onnx", "onnxscript", "onnxruntime"):
        if importlib.util.find_spec(name) is None:
            raise ValueError(f"onnx=true needs the package {name}; pip install 'pneumolit[export]'")


def write_onnx(scorer: Scorer, path: Path) -> float:
    """Write the file, run it, and compare with the model.

    Args:
        scorer: to export.
        path: of the file.

    Returns:
        The largest difference of a probability, over films of noise.

    Raises:
        ValueError: packages are missing, or the file does not give what the model gives; none is left behind then.
    """
    check_packages()
    import onnx
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass  # which onnxscript brings

    module = FilmToProbability(scorer).cpu().eval()
    side = scorer.sides[0]
    films = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (3, 1, side, side)).astype(np.uint8))
    with _quietly(), torch.no_grad():
        program = torch.onnx.export(
            module,
            (films,),
            dynamo=True,
            opset_version=OPSET,
            input_names=["image"],
            output_names=["class_probability", "pneumonia_probability"],
            dynamic_shapes={"image": {0: torch.export.Dim("films", min=1, max=65536)}},
        )
    assert program is not None
    # The exporter notes beside every node lines of source with the folders of this machine.
    ClearMetadataAndDocStringPass()(program.model)
    graph = program.model_proto
    _describe(graph, scorer)
    onnx.checker.check_model(graph)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        temporary.write_bytes(graph.SerializeToString())
        difference = _difference(temporary, module, side)
        if not difference <= TOLERANCE:
            raise ValueError(
                f"the ONNX file gives probabilities that are off by {difference:.2g}, more than {TOLERANCE:g}; it is "
                "not kept. Use the bundle, which holds the model itself"
            )
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    return difference


def _describe(graph: Any, scorer: Scorer) -> None:
    import onnx

    points = {point.name: point.threshold for point in scorer.points}
    told = {
        "producer": "pneumolit",
        "notice": "Research software, not a medical device.",
        "name": scorer.name,
        "identity": scorer.identity,
        "classes": json.dumps(list(scorer.labels.classes)),
        "positive": json.dumps(list(scorer.labels.positive)),
        "input": f"image: uint8 (films, 1, {scorer.sides[0]}, {scorer.sides[0]}), gray, upright, black is 0; the whole "
        "film squashed to that square with an antialiased bilinear filter",
        "output": "class_probability: (films, classes), as the model gives it; pneumonia_probability: (films,), "
        "calibrated, at prevalence one half",
        "thresholds": json.dumps(points),
        "negative": negative_word(scorer.labels),  # what a film is called below the threshold
    }
    onnx.helper.set_model_props(graph, told)


def _difference(path: Path, module: FilmToProbability, side: int) -> float:
    """With other numbers of films than the one that was traced."""
    import onnxruntime

    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    rng, largest = np.random.default_rng(1), 0.0
    for count in (1, 2, 5):
        # Smooth fields and noise: films of neither kind alone would reach all parts of the model.
        films = rng.integers(0, 256, (count, 1, side, side)).astype(np.uint8)
        films[::2] = np.linspace(0, 255, side, dtype=np.uint8)[None, None, :, None]
        found = session.run(None, {"image": films})
        with torch.no_grad():
            expected = module(torch.from_numpy(films))
        for one, other in zip(found, expected, strict=True):
            largest = max(largest, float(np.abs(one - other.numpy()).max()))
    return largest


@contextlib.contextmanager
def _quietly() -> Iterator[None]:
    """The exporter prints a page of its own doings, and warns of its own past."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir", "torch.export")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
