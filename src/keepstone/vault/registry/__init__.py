"""The registry's domain: versions of models, and what points to them.

    entries of the ledger -> records -> catalogue (a fold) -> versions, pointers, proposals

Pure: nothing here reads a disk or a clock. Who may do what is the policy's business, and whether
a version may be used is the gate's; both are asked by the flows in `workspace/registry`.
"""
