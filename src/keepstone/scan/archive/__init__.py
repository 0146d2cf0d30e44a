"""Archives and compressed streams: each member is opened and judged."""
