"""A trained model leaves its run folder: as a bundle, and as an ONNX file."""
