"""The two names of in-toto that every envelope of ours carries.

Apart from `statement`, so that signing a model needs none of our predicates: a command that signs
starts faster without them.
"""

from __future__ import annotations

STATEMENT_TYPE = "https://in-toto.io/Statement/v1"
PAYLOAD_TYPE = "application/vnd.in-toto+json"
