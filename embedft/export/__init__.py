"""Exported models: sentence-transformers folders, model cards, ONNX, the hub."""
