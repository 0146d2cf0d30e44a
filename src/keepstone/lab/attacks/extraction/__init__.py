"""Copies of a model made from its answers alone: how good they get, by the number of queries."""
