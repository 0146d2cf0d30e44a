"""What a model tells of the data that it was trained on: one attack, one file."""
