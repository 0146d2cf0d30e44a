"""Serve an admitted model: certificate, gateway, server, and the words that say where all is."""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from keepstone import __version__
from keepstone.contract.sample import sample_request
from keepstone.core.ports import rfc3339
from keepstone.errors import DeniedError, OperationalError
from keepstone.files import write_atomic
from keepstone.gateway.app import Gateway, GatewayOptions
from keepstone.gateway.audit import Mode
from keepstone.gateway.endpoint import Endpoint
from keepstone.gateway.guards import Credentials
from keepstone.gateway.server import Server
from keepstone.policy.document import Limits, Policy
from keepstone.workspace.admit import Admitted, Observer, Submission, submit
from keepstone.workspace.listening import (
    Certificates,
    ListenOptions,
    audit_trail,
    chores_of,
    connection_limits,
    open_doors,
    rate_of_roles,
    rates,
)
from keepstone.workspace.opened import Workspace, open_workspace
from keepstone.workspace.operations import execute
from keepstone.workspace.registry.admitting import Wanted, submit_version
from keepstone.workspace.site import Site
from keepstone.workspace.standing import Keeper, Standing

KEY_LIFETIME_MS = 24 * 3_600_000
_log = logging.getLogger("keepstone.workspace")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeOptions(ListenOptions):
    """Where and how to serve. `audit` None takes the policy's mode."""

    audit: str | None = None


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
        listening = open_doors(workspace, options, stack)
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
    url = options.url(listening[0].getsockname()[1])
    certificates = None if options.unsafe_plain_http else Certificates(workspace, options.hosts)
    server = Server(
        _gateway(workspace, endpoint, mode, url),
        listening,
        tls=None if certificates is None else certificates.context(),
        limits=connection_limits(policy.limits),
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
        }
        | _limits_of_roles(policy.limits),
    )
    keeper = Keeper([(0.0, standing.renew_if_due), *chores_of(workspace, certificates, server)])
    try:
        server.run()
    finally:
        keeper.close()
        workspace.record_event("stopped", {"model": subject.name, "served": str(started)})


def _limits_of_roles(limits: Limits) -> dict[str, Any]:
    """Which roles may ask more or less than all others from now on, where there are such."""
    told = {role: asdict(limit) for role, limit in limits.roles.items()}
    return {"limits": told} if told else {}


def _gateway(workspace: Workspace, endpoint: Endpoint, mode: Mode, url: str) -> Gateway:
    limits = workspace.trust.policy.limits
    address, principal = rates(limits)
    return Gateway(
        [endpoint],
        Credentials(workspace.ring, workspace.verifier),
        workspace.authorizer,
        audit_trail(workspace, mode),
        workspace.clock,
        GatewayOptions(
            address,
            principal,
            max_body_bytes=limits.max_body_bytes,
            url=url,
            version=__version__,
            ledger_size=lambda: workspace.ledger.durable_size,
            rate_of=rate_of_roles(workspace.trust.policy),
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
