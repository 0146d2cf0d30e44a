"""Defences: what they certify, and what is left of the others once they are attacked in turn."""
