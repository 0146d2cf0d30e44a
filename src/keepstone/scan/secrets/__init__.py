"""Secrets in source, configuration, notebooks, pickles and archives: found, and never shown."""
