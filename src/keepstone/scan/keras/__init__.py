"""Keras: what a configuration names, in a `.keras` archive or in HDF5."""
