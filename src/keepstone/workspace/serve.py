"""Serve an admitted model: certificate, gateway, server, and the words that say where all is."""

from __future__ import annotations

import logging
import os
import socket
import ssl
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from keepstone import __version__
from keepstone.contract.sample import sample_request
from keepstone.core.ports import SystemRandomness, rfc3339
from keepstone.errors import DeniedError, InputError, OperationalError
from keepstone.files import write_atomic
from keepstone.gateway.app import Gateway, GatewayOptions
from keepstone.gateway.audit import AuditOptions, AuditTrail, Mode
from keepstone.gateway.connections import ConnectionLimits
from keepstone.gateway.endpoint import Endpoint
from keepstone.gateway.guards import Credentials
from keepstone.gateway.limits import Rate
from keepstone.gateway.server import Server, listen, tls_context
from keepstone.identity.tls import LOCAL_HOSTS, issue_leaf
from keepstone.policy.document import Limits, Policy
from keepstone.workspace.admit import Admitted, Observer, Submission, submit
from keepstone.workspace.control import ControlServer
from keepstone.workspace.opened import Workspace, open_workspace
from keepstone.workspace.operations import execute
from keepstone.workspace.registry.admitting import Wanted, submit_version
from keepstone.workspace.site import Site
from keepstone.workspace.standing import Keeper, Standing

KEY_LIFETIME_MS = 24 * 3_600_000
_OUTSIDE_EVERY_S = 1.0
_RESUME_EVERY_S = 2.0
_log = logging.getLogger("keepstone.workspace")


@dataclass(frozen=True, slots=True)
class ServeOptions:
    """Where and how to serve. `audit` None takes the policy's mode.

    `unsafe_plain_http` is a reason to serve without TLS; loopback only, and recorded.
    """

    host: str = "127.0.0.1"
    port: int = 8443
    audit: str | None = None
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


@dataclass(frozen=True, slots=True)
class Served:
    """What is being served, where, and what is not proven about it."""

    url: str
    ca: Path | None
    model: str
    digest: str
    admission: str
    admitted_until: str
    profile: str
    audit: str
    policy_path: Path
    api_key: str = field(repr=False)
    key_until: str
    header_file: Path
    ledger_size: int
    ledger_root: str
    not_proven: tuple[str, ...]
    sample: bytes = field(repr=False)
    pid: int = field(default_factory=os.getpid)

    def write_sample(self) -> Path:
        """Write a request that the model's contract accepts, and say where."""
        path = self.header_file.with_name(f"sample-{self.model}.json")
        write_atomic(path, self.sample)
        return path


def up(
    site: Site,
    submission: Submission | Wanted,
    options: ServeOptions,
    observer: Observer,
    announce: Callable[[Served], None],
) -> None:
    """Admit `submission` and serve it until the process is told to stop.

    What is `Wanted` is a version of the registry, pulled and then submitted like any file.
    `announce` is called once the endpoint answers. On the way out, everything acknowledged is
    durable and a checkpoint is kept outside. Raises what `open_workspace` and `submit` raise,
    and OperationalError `server.port_in_use`.
    """
    with open_workspace(site) as workspace, ExitStack() as stack:
        # A port that is taken is found out before anything is done.
        listening = listen(options.host, options.port)
        for each in listening:
            stack.enter_context(each)
        control = ControlServer(site.layout, lambda *asked: execute(workspace, *asked))
        stack.callback(control.close)
        if isinstance(submission, Wanted):
            admitted = submit_version(workspace, submission, observer)
        else:
            admitted = submit(workspace, submission, observer)
        _serve(workspace, admitted, options, listening, announce)


def _serve(
    workspace: Workspace,
    admitted: Admitted,
    options: ServeOptions,
    listening: list[socket.socket],
    announce: Callable[[Served], None],
) -> None:
    subject, policy = admitted.verdict.subject, workspace.trust.policy
    mode = _audit_mode(options, policy)
    endpoint = Endpoint(subject.name, admitted.contract, admitted.loaded.runtime)
    standing = Standing(workspace, admitted, endpoint)
    scheme = "http" if options.unsafe_plain_http else "https"
    url = f"{scheme}://{_authority(options.host, listening[0].getsockname()[1])}"
    certificates = None if options.unsafe_plain_http else Certificates(workspace, options.hosts)
    server = Server(
        _gateway(workspace, endpoint, mode, url),
        listening,
        tls=None if certificates is None else certificates.context(),
        limits=_connection_limits(policy.limits),
        on_ready=lambda port: announce(_describe(workspace, admitted, options, url, mode)),
    )
    started = workspace.record_event(
        "served",
        {
            "model": subject.name,
            "digest": subject.digest.hex,
            "admission": admitted.admission.digest.hex,
            "url": url,
            "audit": mode,
            "unsafe_plain_http": options.unsafe_plain_http,
        },
    )
    chores: list[tuple[float, Callable[[], None]]] = [
        (0.0, standing.renew_if_due),
        (_OUTSIDE_EVERY_S, _outside_chore(workspace)),
        (_RESUME_EVERY_S, workspace.resume_after_full_disk),
    ]
    if certificates is not None:
        chores.append((60.0, lambda: certificates.renew_if_due(server)))
    keeper = Keeper(chores)
    try:
        server.run()
    finally:
        keeper.close()
        workspace.record_event("stopped", {"model": subject.name, "served": str(started)})


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


def _gateway(workspace: Workspace, endpoint: Endpoint, mode: Mode, url: str) -> Gateway:
    limits = workspace.trust.policy.limits
    audit = AuditTrail(
        workspace.ledger,
        workspace.periods,
        workspace.clock,
        SystemRandomness(),
        AuditOptions(mode),
    )
    return Gateway(
        [endpoint],
        Credentials(workspace.ring, workspace.verifier),
        workspace.authorizer,
        audit,
        workspace.clock,
        GatewayOptions(
            address=Rate(limits.address_per_second, limits.address_burst),
            principal=Rate(limits.principal_per_second, limits.principal_burst),
            max_body_bytes=limits.max_body_bytes,
            url=url,
            version=__version__,
            ledger_size=lambda: workspace.ledger.durable_size,
        ),
    )


def _audit_mode(options: ServeOptions, policy: Policy) -> Mode:
    """The mode asked for, else the policy's. In production it may only be stricter than that."""
    asked = options.audit or policy.audit_mode
    if asked == "group" and policy.audit_mode == "strict" and policy.profile == "production":
        raise DeniedError(
            "serve.audit_mode",
            "The policy asks for strict audit, and this is a production profile.",
            "Change [audit] mode in the policy file if that is what is meant.",
        )
    return "group" if asked == "group" else "strict"


def _connection_limits(limits: Limits) -> ConnectionLimits:
    return ConnectionLimits(
        total=limits.max_connections,
        per_address=limits.max_connections_per_address,
        header_s=limits.header_timeout_ms / 1000,
        body_s=limits.body_timeout_ms / 1000,
    )


def _outside_chore(workspace: Workspace) -> Callable[[], None]:
    kept = 0

    def chore() -> None:
        nonlocal kept
        # Signing costs little, but a ledger at rest should stay at rest.
        if workspace.ledger.durable_size > kept:
            kept = workspace.keep_outside().size

    return chore


def _authority(host: str, port: int) -> str:
    named = {"0.0.0.0": "127.0.0.1", "::": "[::1]"}.get(host, host)  # noqa: S104  # recognised
    return f"[{named}]:{port}" if ":" in named and "[" not in named else f"{named}:{port}"


def _describe(
    workspace: Workspace, admitted: Admitted, options: ServeOptions, url: str, mode: Mode
) -> Served:
    """Mint the key, write its header, and say all that there is to say."""
    layout = workspace.layout
    subject = admitted.verdict.subject
    minted = execute(
        workspace,
        "keys.create",
        {
            "principal": "local:up",
            "roles": ["caller"],
            "models": [subject.name],
            "lifetime_ms": min(KEY_LIFETIME_MS, workspace.trust.policy.key_max_lifetime_ms),
        },
    )
    secret = str(minted["key"])
    write_atomic(layout.api_key_file, f"Authorization: Bearer {secret}\n".encode())
    not_proven = list(admitted.verdict.not_proven)
    if not admitted.contract.ranges_declared:
        not_proven.append("ranges")
    if options.unsafe_plain_http:
        not_proven.append("transport")
    try:
        workspace.keep_outside()
    except OperationalError as error:
        _log.warning("%s", error)
        not_proven.append("rollback")
    head = workspace.ledger.head()
    return Served(
        url=url,
        ca=None if options.unsafe_plain_http else layout.authority,
        model=subject.name,
        digest=str(subject.digest),
        admission=admitted.admission.digest.short,
        admitted_until=rfc3339(admitted.admission.expires),
        profile=admitted.verdict.profile,
        audit=mode,
        policy_path=layout.policy,
        api_key=secret,
        key_until=str(minted["expires"]),
        header_file=layout.api_key_file,
        ledger_size=head.size,
        ledger_root=head.root.hex()[:16],
        not_proven=tuple(not_proven),
        sample=sample_request(admitted.contract),
    )
