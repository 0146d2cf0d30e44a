"""Who asks through the workspace's own door: the user of this machine, or the holder of a key.

The user's id comes from the kernel, never from the request: the owner knows which user is at the
other end of the control socket, and that is the local principal.
"""

from __future__ import annotations

import pwd
import re

from keepstone.identity.principal import LOCAL_PREFIX, Principal, PrincipalKind
from keepstone.workspace.opened import Workspace

_UNUSUAL = re.compile(r"[^A-Za-z0-9._@+-]")
_BEARER = "Authorization: Bearer "


def local_principal(uid: int) -> Principal:
    """The user `uid` of this machine: `local:NAME`, holding the policy's `local_roles`."""
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    # A name that a principal cannot have must not become another user's.
    if not name or _UNUSUAL.search(name) or not name[0].isalnum() or len(name) > 100:
        name = f"uid-{uid}"
    return Principal(
        f"{LOCAL_PREFIX}{name}", PrincipalKind.LOCAL, frozenset(), "local", f"uid-{uid}"
    )


def authenticate(workspace: Workspace, key: str | None, uid: int) -> Principal:
    """The principal of the API key `key`, or without one the user `uid`.

    The key may stand in a header, as `keepstone up` leaves one. Raises DeniedError `auth.*`.
    """
    if key is None:
        return local_principal(uid)
    return workspace.ring.authenticate(key.strip().removeprefix(_BEARER), workspace.clock.now_ms())
