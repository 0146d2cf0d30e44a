"""`policy explain`: put a question to the gate or to the roles, beside a running owner or none."""

from __future__ import annotations

from keepstone.errors import InputError
from keepstone.identity.principal import Principal, PrincipalKind, check_principal_id
from keepstone.policy.explain import Explanation, explain_model, explain_principal
from keepstone.policy.gate import gate
from keepstone.workspace.kek import current_kek
from keepstone.workspace.reading import WorkspaceView, find_subject, read_workspace
from keepstone.workspace.secrets import load_ring
from keepstone.workspace.site import Site


def explain_subject(site: Site, model: str, endpoint: str) -> Explanation:
    """Why `model` (a name, or a digest) is admitted at `endpoint` or not."""
    with read_workspace(site) as view:
        subject = find_subject(view.evidence, model)
        evidence = view.evidence.about(subject.digest, subject.name, view.now)
        return explain_model(gate(view.engine(), view.trust, evidence, endpoint))


def explain_credential(site: Site, who: str, action: str, model: str | None) -> Explanation:
    """Why `who` may do `action` or not.

    `who` is a principal's id, as the policy binds it, or an API key's id with that key's own
    grants. Raises InputError `principal.invalid`.
    """
    with read_workspace(site) as view:
        return explain_principal(view.engine(), _principal(view, who), action, model)


def _principal(view: WorkspaceView, who: str) -> Principal:
    if ":" in who:
        return Principal(check_principal_id(who), PrincipalKind.LOCAL, frozenset(), "local", "none")
    layout = view.site.layout
    kek = current_kek(view.site)
    ring = load_ring(layout, kek, view.policy.key_max_lifetime_ms)
    for record in ring.records:
        if record.key_id == who:
            return Principal(record.principal, PrincipalKind.API_KEY, record.grants, "api_key", who)
    raise InputError(
        "principal.unknown",
        f"{who[:64]!r} is neither a principal such as user:alice nor the id of an API key.",
        "See `keepstone keys list`.",
    )
