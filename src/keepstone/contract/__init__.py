"""What a model accepts and returns, and how the Open Inference Protocol writes it. Pure."""
