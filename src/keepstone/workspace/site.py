"""How to reach a workspace: where it lies, what unlocks it, what time it is."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from keepstone.core.ports import Clock, SystemClock
from keepstone.identity.keystores.reference import TokenAccess
from keepstone.identity.signing import read_secret_file
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

    @classmethod
    def at(cls, root: Path, environment: Mapping[str, str]) -> Site:
        """The workspace at `root`, with what an environment says about it.

        KEEPSTONE_PASSPHRASE unlocks its keys, and what `token_access` reads those in a token.
        Checkpoints are kept in KEEPSTONE_OUTSIDE, else in
        the user's state folder: whoever opens a workspace must look where the last one wrote.
        """
        phrase = environment.get("KEEPSTONE_PASSPHRASE")
        return cls(
            Layout(root.absolute()),
            outside_folder(environment),
            phrase.encode() if phrase else None,
            tokens=token_access(environment),
        )


def outside_folder(environment: Mapping[str, str]) -> Path:
    """Where checkpoints are kept outside every workspace.

    KEEPSTONE_OUTSIDE, else the user's state folder (XDG_STATE_HOME, `~/.local/state`).
    """
    if chosen := environment.get("KEEPSTONE_OUTSIDE"):
        return Path(chosen)
    state = environment.get("XDG_STATE_HOME") or str(Path.home() / ".local" / "state")
    return Path(state) / "keepstone" / "checkpoints"


def token_access(environment: Mapping[str, str]) -> TokenAccess:
    """KEEPSTONE_PIN, or the content of KEEPSTONE_PIN_FILE, and KEEPSTONE_PKCS11_MODULE."""
    pin, module = environment.get("KEEPSTONE_PIN"), environment.get("KEEPSTONE_PKCS11_MODULE")
    if not pin and (file := environment.get("KEEPSTONE_PIN_FILE")):
        pin = read_secret_file(Path(file), limit=256).decode("utf-8", "replace").rstrip("\r\n")
    return TokenAccess(pin, Path(module) if module else None)
