"""What everything that this workspace serves has in common: its address, certificate, chores."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from ipaddress import ip_address

from keepstone.core.ports import SystemRandomness
from keepstone.errors import InputError
from keepstone.gateway.audit import AuditOptions, AuditTrail, Mode
from keepstone.gateway.connections import ConnectionLimits
from keepstone.gateway.limits import Rate
from keepstone.gateway.server import Server, listen, tls_context
from keepstone.identity.principal import Principal
from keepstone.identity.tls import LOCAL_HOSTS, issue_leaf
from keepstone.policy.document import Limits, Policy
from keepstone.workspace.control import ControlServer
from keepstone.workspace.opened import Workspace
from keepstone.workspace.operations import execute
from keepstone.workspace.standing import Chore

_OUTSIDE_EVERY_S = 1.0
_RESUME_EVERY_S = 2.0
_CERTIFICATE_EVERY_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ListenOptions:
    """Where to serve. `unsafe_plain_http` is a reason to serve without TLS; loopback only, and
    recorded."""

    host: str = "127.0.0.1"
    port: int = 8443
    unsafe_plain_http: str | None = None

    def __post_init__(self) -> None:
        if self.unsafe_plain_http is None:
            return
        if not self.unsafe_plain_http.strip():
            raise InputError("serve.no_reason", "Serving without TLS needs a reason.")
        if self.host != "localhost" and not _is_loopback(self.host):
            raise InputError(
                "serve.plain_http",
                f"Plain HTTP is served on loopback only, not on {self.host}.",
                "Leave out --unsafe-plain-http.",
            )

    def url(self, port: int) -> str:
        """How clients on this machine reach what listens at `port`."""
        scheme = "http" if self.unsafe_plain_http else "https"
        host = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(self.host, self.host)  # noqa: S104
        named = f"[{host}]" if ":" in host and "[" not in host else host
        return f"{scheme}://{named}:{port}"

    @property
    def hosts(self) -> tuple[str, ...]:
        """The names beyond loopback that a certificate must speak for."""
        return () if self.host in LOCAL_HOSTS or self._is_any else (self.host,)

    @property
    def _is_any(self) -> bool:
        return self.host in ("0.0.0.0", "::")  # noqa: S104  # recognised, not bound


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def open_doors(
    workspace: Workspace, options: ListenOptions, stack: ExitStack
) -> list[socket.socket]:
    """Listen for clients, and for other processes of this user, until the stack unwinds.

    Raises OperationalError `server.port_in_use`, `server.cannot_listen`.
    """
    # A port that is taken is found out before anything is done.
    listening = listen(options.host, options.port)
    for each in listening:
        stack.enter_context(each)
    control = ControlServer(
        workspace.layout,
        lambda operation, arguments, uid: execute(workspace, operation, arguments, uid),
    )
    stack.callback(control.close)
    return listening


class Certificates:
    """Fresh leaves under the workspace's authority, each used for half of its life."""

    def __init__(self, workspace: Workspace, hosts: tuple[str, ...]) -> None:
        self._authority = workspace.authority(hosts)
        self._clock = workspace.clock
        self._hosts = [*LOCAL_HOSTS, *hosts]
        self._renew_at = 0

    def context(self) -> ssl.SSLContext:
        """A context with a new leaf. Raises `tls.host_not_covered`, `tls.ca_expired`."""
        now = self._clock.now_ms()
        leaf = issue_leaf(self._authority, self._hosts, now)
        self._renew_at = now + (leaf.expires - now) // 2
        return tls_context(leaf.chain_pem, leaf.key_pem)

    def renew_if_due(self, server: Server) -> None:
        if self._clock.now_ms() >= self._renew_at:
            server.tls = self.context()


def connection_limits(limits: Limits, *, body_in_pieces: bool = False) -> ConnectionLimits:
    """The policy's limits on connections."""
    return ConnectionLimits(
        total=limits.max_connections,
        per_address=limits.max_connections_per_address,
        header_s=limits.header_timeout_ms / 1000,
        body_s=limits.body_timeout_ms / 1000,
        body_in_pieces=body_in_pieces,
    )


def rates(limits: Limits) -> tuple[Rate, Rate]:
    """How often an address, and a principal, may ask."""
    return (
        Rate(limits.address_per_second, limits.address_burst),
        Rate(limits.principal_per_second, limits.principal_burst),
    )


def rate_of_roles(policy: Policy) -> Callable[[Principal], Rate | None] | None:
    """What a principal may ask by its roles, where the policy gives any role a limit."""
    limits = policy.limits
    if not limits.roles:
        return None

    def rate_of(principal: Principal) -> Rate | None:
        own = limits.of_roles({grant.role for grant in policy.grants_of(principal)})
        return None if own is None else Rate(own.per_second, own.burst)

    return rate_of


def audit_trail(workspace: Workspace, mode: Mode) -> AuditTrail:
    """The record of what a gateway answered, in the workspace's ledger."""
    return AuditTrail(
        workspace.ledger,
        workspace.periods,
        workspace.clock,
        SystemRandomness(),
        AuditOptions(mode),
    )


def chores_of(
    workspace: Workspace, certificates: Certificates | None, server: Server
) -> list[Chore]:
    """What must be done now and again while anything is served: see `standing.Keeper`."""
    chores: list[Chore] = [
        (_OUTSIDE_EVERY_S, _outside_chore(workspace)),
        (_RESUME_EVERY_S, workspace.resume_after_full_disk),
    ]
    if certificates is not None:
        chores.append((_CERTIFICATE_EVERY_S, lambda: certificates.renew_if_due(server)))
    return chores


def _outside_chore(workspace: Workspace) -> Callable[[], None]:
    kept = 0

    def chore() -> None:
        nonlocal kept
        # Signing costs little, but a ledger at rest should stay at rest.
        if workspace.ledger.durable_size > kept:
            kept = workspace.keep_outside().size

    return chore
