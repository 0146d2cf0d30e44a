"""A request's way through the guards to a model and into the audit trail.

The guards know no model: models, keys, policy and ledger arrive as values or small protocols.
"""
