"""Text in a model's folder: configuration, notebooks, source."""
