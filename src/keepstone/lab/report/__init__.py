"""The report of a suite for people: one HTML file that needs nothing beside it."""
