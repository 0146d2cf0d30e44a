"""Asking the gate about what this workspace knows now."""

from __future__ import annotations

from keepstone.core.subject import Subject
from keepstone.policy.gate import Verdict, gate
from keepstone.workspace.opened import Workspace


def judge(workspace: Workspace, subject: Subject, endpoint: str) -> Verdict:
    """What the policy says now about `subject` under its name. Raises `evidence.unreadable`."""
    evidence = workspace.evidence.about(subject.digest, subject.name, workspace.clock.now_ms())
    return gate(workspace.authorizer.engine, workspace.trust, evidence, endpoint)
