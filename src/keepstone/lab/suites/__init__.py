"""Several attacks in one run over the same samples, and what they say together."""
