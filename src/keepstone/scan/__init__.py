"""Judging model files without running anything in them: clean, flagged, or not evaluated."""
