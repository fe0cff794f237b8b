"""A stored model as ONNX; `export.model` does it and needs the extra `onnx`."""
