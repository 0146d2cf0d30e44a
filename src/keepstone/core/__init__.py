"""The words every ring shares: digests, canonical JSON, findings, subjects, ports.

Standard library only, and no input or output: a value here can be trusted in any ring.
"""
