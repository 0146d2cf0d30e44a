"""How to reach a workspace: where it lies, what unlocks it, what time it is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from keepstone.core.ports import Clock, SystemClock
from keepstone.identity.keystores.reference import TokenAccess
from keepstone.workspace.layout import Layout


@dataclass(frozen=True, slots=True)
class Site:
    """Everything a flow needs to open a workspace. Made at the edge, from the environment.

    `outside` is the folder of checkpoints beyond the workspace; `passphrase` unlocks its keys,
    `tokens` those that a PKCS#11 token holds.
    """

    layout: Layout
    outside: Path
    passphrase: bytes | None = field(default=None, repr=False)
    clock: Clock = field(default_factory=SystemClock)
    tokens: TokenAccess = field(default_factory=TokenAccess)
