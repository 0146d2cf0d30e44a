"""Secrets made up by seed, planted in every kind of file; and honest files beside them.

No token is written down here: each is made when the corpus is, with the structure and checksum
that its family has. `python -m bench.planted FOLDER` writes the corpus and its manifest.
"""
