"""The command line: one file per command. Configuration is read here and nowhere deeper.

Every command file imports only click and this package at its top, so `keepstone --help` stays
quick; what a command needs is imported where it runs.
"""
