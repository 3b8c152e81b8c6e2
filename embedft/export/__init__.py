"""Models that leave: sentence-transformers folders, ONNX, the hub."""
