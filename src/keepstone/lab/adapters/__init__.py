"""Other libraries' attacks on our targets and meters, and their classifiers as our targets."""
