"""Models that can be asked: a file in a limited child, an endpoint over HTTPS."""
