"""Serve the registry of a workspace over HTTPS, until the process is told to stop."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from keepstone.gateway.guards import Credentials
from keepstone.gateway.registry.app import RegistryGateway, RegistryOptions
from keepstone.gateway.server import Server
from keepstone.vault.carry import MAX_BLOCK
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
from keepstone.workspace.registry.desk import rules_of
from keepstone.workspace.registry.served import ServedRegistry
from keepstone.workspace.site import Site
from keepstone.workspace.standing import Keeper

# A signature, statements, and the list of the files, beside the artifact.
_BESIDE = 3 * MAX_BLOCK


@dataclass(frozen=True, slots=True)
class ServedAt:
    """Where the registry is served, and the key by which its answers are known."""

    url: str
    ca: Path | None
    gate_key: str
    profile: str
    models: int
    versions: int
    pid: int = field(default_factory=os.getpid)


def serve_registry(
    site: Site, options: ListenOptions, announce: Callable[[ServedAt], None]
) -> None:
    """Serve the workspace's registry; `announce` is called once it answers.

    Raises what `open_workspace` raises; DeniedError `registry.not_in_policy`, OperationalError
    `server.port_in_use`, `registry.unreadable`.
    """
    with open_workspace(site) as workspace, ExitStack() as stack:
        rules = rules_of(workspace)
        listening = open_doors(workspace, options, stack)
        url = options.url(listening[0].getsockname()[1])
        certificates = None if options.unsafe_plain_http else Certificates(workspace, options.hosts)
        limits = workspace.trust.policy.limits
        server = Server(
            _gateway(workspace, rules.max_version_bytes + _BESIDE),
            listening,
            tls=None if certificates is None else certificates.context(),
            limits=connection_limits(limits, body_in_pieces=True),
            on_ready=lambda port: announce(_describe(workspace, options, url)),
        )
        started = workspace.record_event(
            "registry.served", {"url": url, "unsafe_plain_http": options.unsafe_plain_http}
        )
        keeper = Keeper(chores_of(workspace, certificates, server))
        try:
            server.run()
        finally:
            keeper.close()
            workspace.record_event("registry.stopped", {"served": str(started)})


def _gateway(workspace: Workspace, max_push_bytes: int) -> RegistryGateway:
    address, principal = rates(workspace.trust.policy.limits)
    return RegistryGateway(
        ServedRegistry(workspace),
        Credentials(workspace.ring, workspace.verifier),
        workspace.authorizer,
        # Whatever the endpoint's mode: an answer of the registry is on the record before it goes.
        audit_trail(workspace, "strict"),
        workspace.clock,
        RegistryOptions(
            address,
            principal,
            max_push_bytes,
            ledger_size=lambda: workspace.ledger.durable_size,
            rate_of=rate_of_roles(workspace.trust.policy),
        ),
    )


def _describe(workspace: Workspace, options: ListenOptions, url: str) -> ServedAt:
    catalogue = workspace.book.catalogue()
    return ServedAt(
        url=url,
        ca=None if options.unsafe_plain_http else workspace.layout.authority,
        gate_key=workspace.keys.gate.key_id,
        profile=workspace.trust.policy.profile,
        models=len(catalogue.shelves),
        versions=sum(len(shelf.versions) for shelf in catalogue.shelves.values()),
    )
