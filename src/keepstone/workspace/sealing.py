"""Which sealing of an artifact is the newest: counted under its name, and kept in the ledger.

The vault's folder is not trusted. That the newest blob of a model is number 3 is a statement of
the observer's, so a blob that was put back from before does not open, although it once was sound.
"""

from __future__ import annotations

from keepstone.core.subject import Subject
from keepstone.errors import InputError, VerificationError
from keepstone.evidence.made import TOOL, Made
from keepstone.evidence.predicates import Sealing
from keepstone.evidence.statement import make_statement
from keepstone.evidence.verify import EvidenceBase
from keepstone.vault.seal import check_sealed, seal
from keepstone.vault.staging import Staged
from keepstone.workspace.opened import Workspace


def newest_sealing(evidence: EvidenceBase, subject: Subject) -> int | None:
    """The number of the newest sealing of this artifact under its name, or None."""
    return max(
        (
            item.predicate.version
            for item in evidence.statements
            if isinstance(item.predicate, Sealing) and item.subject == subject
        ),
        default=None,
    )


def next_sealing(evidence: EvidenceBase, name: str) -> int:
    """The number that the next sealing of anything under `name` gets."""
    numbers = (
        item.predicate.version
        for item in evidence.statements
        if isinstance(item.predicate, Sealing) and item.subject.name == name
    )
    return 1 + max(numbers, default=0)


def keep_sealed(workspace: Workspace, staged: Staged, subject: Subject) -> str:
    """Have a sound blob of `staged` in the vault, under a number that is on the record.

    A sound blob that is there is kept. Else its number is recorded first: a crash before the
    blob is written leaves one that does not open, and the next start writes it again. Two that
    come at once seal one after the other: the last blob written is the last one numbered.
    """
    with workspace.sealing_alone(subject):
        return _keep_sealed(workspace, staged, subject)


def _keep_sealed(workspace: Workspace, staged: Staged, subject: Subject) -> str:
    newest = newest_sealing(workspace.evidence, subject)
    if newest is not None:
        try:
            check_sealed(workspace.store, workspace.kek, subject.digest, subject.name, newest)
        except (VerificationError, InputError):
            # Missing, damaged or rolled back: worth nothing to anybody.
            pass
        else:
            return f"sealed before, as number {newest}"
    with workspace.numbering:
        number = next_sealing(workspace.evidence, subject.name)
        said = Sealing(Made(TOOL, workspace.clock.now_ms()), number)
        workspace.record(make_statement(subject, said, workspace.keys.observer))
    sealed = seal(staged, workspace.store, workspace.kek, subject.name, number)
    return f"{sealed.size:,} bytes encrypted, as number {number}"
