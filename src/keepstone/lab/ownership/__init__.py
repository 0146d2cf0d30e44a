"""Fingerprints: answers to secret inputs that an independent model hardly gives."""
