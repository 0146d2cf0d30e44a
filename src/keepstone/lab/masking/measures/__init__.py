"""What signs are read from, each measured once for all signs, at a stated cost in queries."""
