"""pneumolit: chest-X-ray pneumonia classifiers with PyTorch Lightning, Hydra, timm and TensorBoard.

Research software. It is not a medical device.
"""

__version__ = "0.1.0"
