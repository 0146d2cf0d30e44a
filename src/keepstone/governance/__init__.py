"""What is told to people outside about a model: documents made from evidence, and from it alone."""
