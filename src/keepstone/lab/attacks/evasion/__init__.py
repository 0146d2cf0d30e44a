"""Inputs that are served a wrong label: by gradient, by score, by label alone."""
