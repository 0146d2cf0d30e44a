"""The ledger: a tamper-evident, append-only Merkle log (RFC 6962, C2SP tlog).

An acknowledged append survives a crash. A local log alone is not tamper-evident against its
operator: only a checkpoint kept outside shows a rewrite.
"""

from keepstone.ledger.checkpoint import (
    Checkpoint,
    format_vkey,
    parse_checkpoint,
    parse_vkey,
    sign_checkpoint,
    verify_checkpoint,
)
from keepstone.ledger.committer import Pending
from keepstone.ledger.entry import (
    MAX_ENTRY,
    EntryHead,
    EntryId,
    Kind,
    index_keys,
    make_entry,
    parse_entry,
    read_head,
)
from keepstone.ledger.log import Ledger
from keepstone.ledger.proof import EntryProof, verify_proof
from keepstone.ledger.reader import LedgerReader
from keepstone.ledger.verify import Fault, LedgerReport, Status, verify_file, verify_ledger
from keepstone.ledger.witness import OutsideCheckpoints, Standing, compare, require_extends

__all__ = [
    "MAX_ENTRY",
    "Checkpoint",
    "EntryHead",
    "EntryId",
    "EntryProof",
    "Fault",
    "Kind",
    "Ledger",
    "LedgerReader",
    "LedgerReport",
    "OutsideCheckpoints",
    "Pending",
    "Standing",
    "Status",
    "compare",
    "format_vkey",
    "index_keys",
    "make_entry",
    "parse_checkpoint",
    "parse_entry",
    "parse_vkey",
    "read_head",
    "require_extends",
    "sign_checkpoint",
    "verify_checkpoint",
    "verify_file",
    "verify_ledger",
    "verify_proof",
]
