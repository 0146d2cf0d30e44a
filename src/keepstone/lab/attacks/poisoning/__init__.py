"""Poisoning drills: data sets that spoil what is trained on them, and what training makes of it."""
