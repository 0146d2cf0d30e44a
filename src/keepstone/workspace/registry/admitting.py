"""A version that a program loads, or an endpoint serves: pulled, and admitted by the gate."""

from __future__ import annotations

import os
import secrets
import shutil
from dataclasses import dataclass
from typing import Any

from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.files import make_private_directory
from keepstone.vault.registry.catalogue import Version
from keepstone.vault.registry.reference import Reference
from keepstone.workspace.admit import Admitted, sign_admission, submit
from keepstone.workspace.intake import Observer, Submission
from keepstone.workspace.opened import Workspace
from keepstone.workspace.reference import latest_admission
from keepstone.workspace.registry.callers import local_principal
from keepstone.workspace.registry.desk import Desk
from keepstone.workspace.registry.pulling import decide, pull, write_out


def admit_version(desk: Desk, text: str) -> dict[str, Any]:
    """The owner's side of a load by number, alias or stage: as `admit.admit_again` answers.

    (1) The principal sees the version. (2) The gate says yes, at the alias or stage that was
    named. (3) The principal may pull. (4) The contract is the one that was read at the push.

    Raises as `pulling.pull`; InputError `registry.no_contract`.
    """
    with desk.asking("load", text, read=True) as attempt:
        # (1)
        version = desk.find(text, attempt)
        # (2), (3)
        granted = decide(desk, version, desk.endpoint_of(text), None, attempt)
        # (4)
        contract = _contract(desk.workspace, version)
    return sign_admission(desk.workspace, granted.verdict, contract)


def _contract(workspace: Workspace, version: Version) -> Digest:
    if version.contract is not None:
        return version.contract
    try:
        exact = Reference(version.name, digest=version.digest)
        return latest_admission(workspace.evidence, exact).contract
    except InputError as error:
        raise InputError(
            "registry.no_contract",
            f"What {version.exact} accepts was not known when it was pushed.",
            f"Serve it once, with its code: keepstone up {version.exact} --architecture"
            " MODULE:CLASS.",
        ) from error


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version of the registry that is to be served; `architecture` as in a submission."""

    text: str
    architecture: str | None = None


def submit_version(workspace: Workspace, wanted: Wanted, observer: Observer) -> Admitted:
    """Bring a version of the registry to an endpoint, on every step that a file goes.

    It is pulled by the user of this process into private staging, and submitted from there, at
    the alias or stage that was named. Raises as `pulling.pull` and `admit.submit`.
    """
    desk = Desk(workspace, local_principal(os.geteuid()))
    pulled = pull(desk, wanted.text, trust_ms=None)
    private = workspace.layout.staging / secrets.token_hex(8)
    make_private_directory(private)
    try:
        for warning in pulled.warnings:
            observer.warn(warning)
        copy = private / "model"
        write_out(workspace, pulled.release, copy)
        submission = Submission(
            copy,
            pulled.version.name,
            endpoint=desk.endpoint_of(wanted.text),
            architecture=wanted.architecture,
        )
        return submit(workspace, submission, observer)
    finally:
        shutil.rmtree(private, ignore_errors=True)
