"""ONNX: its structure, and what the runtime says of it."""
