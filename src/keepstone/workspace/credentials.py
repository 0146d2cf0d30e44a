"""Whose credential is this? Asked beside a workspace's owner, by a process that only reads."""

from __future__ import annotations

import threading
from dataclasses import dataclass

from keepstone.gateway.guards import Credentials
from keepstone.identity.principal import Principal
from keepstone.identity.tokens import TokenVerifier
from keepstone.policy.document import Policy
from keepstone.workspace.kek import current_kek
from keepstone.workspace.layout import read_identity
from keepstone.workspace.reading import public_key
from keepstone.workspace.secrets import load_ring
from keepstone.workspace.site import Site

_Stamp = tuple[tuple[int, int, int], ...]


@dataclass(slots=True)
class _Held:
    stamp: _Stamp
    policy: Policy
    credentials: Credentials


class CredentialsFollower:
    """Authenticates by the workspace's API keys and tokens as they are now.

    A key that was revoked a moment ago is refused: its file is looked at each time, and read
    again where it changed. Any thread may ask.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._lock = threading.Lock()
        self._held: _Held | None = None

    def authenticate(self, presented: bytes, policy: Policy, now: int) -> Principal:
        """The principal of a live credential. Raises DeniedError `auth.*`, and as reading does."""
        return self._current(policy).authenticate(presented, now)

    def _current(self, policy: Policy) -> Credentials:
        stamp = self._stamp()
        with self._lock:
            held = self._held
            if held is None or held.stamp != stamp or held.policy.digest != policy.digest:
                # The stamp is older than what is read: a change between the two is read again.
                held = self._held = _Held(stamp, policy, self._read(policy))
            return held.credentials

    def _stamp(self) -> _Stamp:
        layout = self._site.layout
        files = [layout.api_keys, layout.pepper, layout.kek, layout.keys / "token.pub.pem"]
        found = [path.stat() for path in files]
        return tuple((one.st_ino, one.st_mtime_ns, one.st_size) for one in found)

    def _read(self, policy: Policy) -> Credentials:
        layout = self._site.layout
        origin = read_identity(layout).origin
        ring = load_ring(layout, current_kek(self._site), policy.key_max_lifetime_ms)
        keys = [public_key(layout, "token")]
        return Credentials(ring, TokenVerifier(keys, origin, origin, policy.token_max_lifetime_ms))
