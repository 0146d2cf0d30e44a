"""Keepstone: nothing serves a prediction unless signed evidence satisfies the policy."""

__version__ = "0.1.0"
