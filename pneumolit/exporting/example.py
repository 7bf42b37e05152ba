"""The program of some thirty lines that uses an ONNX file without pneumolit; written beside every such file."""

from __future__ import annotations

EXAMPLE_FILE = "example_onnx.py"
EXAMPLE = '''"""Score JPEG and PNG films: pip install onnxruntime pillow numpy; python {example} FILMS.

Research software, not a medical device. It reads no DICOM and warns of nothing: what is no film gets a number too.
"""
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

session = onnxruntime.InferenceSession(str(Path(__file__).with_name("{file}")))
told = session.get_modelmeta().custom_metadata_map
side, threshold = session.get_inputs()[0].shape[2], json.loads(told["thresholds"])["primary"]

for name in sys.argv[1:] or sys.exit(__doc__):
    try:
        film = ImageOps.exif_transpose(Image.open(name))
        if film.mode.startswith("I"):  # convert("L") would make it white
            raise OSError("more than 8 bits a pixel; store it with 8")
        film = film.convert("L").resize((side, side), Image.Resampling.BILINEAR)
    except Exception as error:  # whatever a damaged file makes Pillow raise
        print(name, "cannot be read:", error)
        continue
    classes, pneumonia = session.run(None, {{"image": np.asarray(film, dtype=np.uint8)[None, None]}})
    decision = "pneumonia" if pneumonia[0] >= threshold else told["negative"]
    shares = map("{{:.4f}}".format, classes[0])
    print(name, f"{{pneumonia[0]:.4f}}", decision, dict(zip(json.loads(told["classes"]), shares)))
'''


def example_for(file: str) -> str:
    """The program for a file of this name, which lies beside it."""
    return EXAMPLE.format(file=file, example=EXAMPLE_FILE)
