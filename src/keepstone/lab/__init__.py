"""Questions put to models: what they give away, and whose they are. Nothing inward leans on it."""
