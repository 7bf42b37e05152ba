"""The program of twenty lines that uses an ONNX file without pneumolit; written beside every such file."""

from __future__ import annotations

EXAMPLE = '''"""Score films: pip install onnxruntime pillow numpy. Research software, not a medical device."""
import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image

session = onnxruntime.InferenceSession(str(Path(__file__).with_name("{file}")))
told = session.get_modelmeta().custom_metadata_map
side = session.get_inputs()[0].shape[2]
threshold = json.loads(told["thresholds"])["primary"]

for name in sys.argv[1:]:
    film = Image.open(name).convert("L").resize((side, side), Image.Resampling.BILINEAR)
    image = np.asarray(film, dtype=np.uint8)[None, None]
    classes, pneumonia = session.run(None, {{"image": image}})
    decision = "pneumonia" if pneumonia[0] >= threshold else "normal"
    shares = (f"{{share:.4f}}" for share in classes[0])
    print(name, f"{{pneumonia[0]:.4f}}", decision, dict(zip(json.loads(told["classes"]), shares)))
'''


def example_for(file: str) -> str:
    """The program for a file of this name, which lies beside it."""
    return EXAMPLE.format(file=file)
