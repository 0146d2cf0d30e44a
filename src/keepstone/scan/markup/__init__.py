"""XML, and the models that are written in it."""
