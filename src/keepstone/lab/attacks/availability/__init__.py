"""Availability attacks: inputs that take a model long, and how much longer than others."""
