"""The registry's flows over one workspace: push, pull, show, move, deprecate, collect.

principal -> what it may see -> what it may do -> what the gate says -> one entry in the ledger
"""
