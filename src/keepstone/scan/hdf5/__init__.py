"""A bounded reader of HDF5: groups, links, attributes and how data is laid out, never the data."""
