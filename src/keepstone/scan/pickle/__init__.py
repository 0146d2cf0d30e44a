"""Pickles: what their opcodes name, wherever the pickle lies."""
