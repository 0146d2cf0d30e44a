"""Signs that a model may have been tampered with. They are told, and never change a verdict."""
