"""Advisories in the OSV format, as a folder of theirs says. Source: the OSV schema, version 1.x."""
