"""Admit a version of another registry, and say where its aliases point.

The registry keeps the files and serves them; what they are, and which version they are, is stated
here. Nothing is sealed, for another program loads them: it asks before it does.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from keepstone.core.subject import Subject, check_name
from keepstone.errors import DeniedError, VerificationError
from keepstone.evidence.made import TOOL, Made
from keepstone.evidence.registered import Registered
from keepstone.evidence.registrations import Registration, Registrations
from keepstone.evidence.statement import make_statement
from keepstone.workspace.admit import ENDPOINT, Submission, examine, judge, record_denial
from keepstone.workspace.opened import Workspace


class Silent:
    """An observer for work that another process waits for: it keeps what was warned of."""

    def __init__(self) -> None:
        self.warnings: list[str] = []

    def begin(self, step: str) -> None:
        pass

    def copied(self, done: int, expected: int) -> None:
        pass

    def end(self, detail: str) -> None:
        pass

    def warn(self, message: str) -> None:
        self.warnings.append(message)


def register_version(workspace: Workspace, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Stage, scan and judge the files in `path`, and state which version they are.

    (1) One private copy is scanned; what signatures and statements came along is taken in.
    (2) A version is one digest for ever: another one under its number is refused.
    (3) That it is this version is stated, whatever the gate says: a no may become a yes.
    (4) The gate decides, and its verdict is the answer.

    Raises VerificationError `registered.other_digest`; InputError `name.invalid`; and what the
    steps of `submit` raise.
    """
    observer = Silent()
    said = _Said(arguments)
    submission = Submission(
        Path(arguments["path"]),
        check_name(str(arguments["name"])),
        _path(arguments.get("signature")),
        _path(arguments.get("statements")),
    )

    def seen(subject: Subject) -> None:
        before = said.held(workspace)
        # (2)
        if before is not None and before.digest != subject.digest:
            raise VerificationError(
                "registered.other_digest",
                f"Version {said.version} of {said.model[:80]!r} was admitted as"
                f" {before.digest.short}, and is {subject.digest.short} now: its files changed.",
                "Restore the files, or register what is there as a new version.",
            )
        # (3)
        if before is None or before.said.location != said.location:
            said.state(workspace, subject)

    verdict = examine(workspace, submission, observer, seen)
    # (4)
    return {
        "name": verdict.subject.name,
        "digest": str(verdict.subject.digest),
        "allowed": verdict.allowed,
        "errors": list(verdict.errors),
        "rule": verdict.rule,
        "missing": [
            {"rule": one.rule, "detail": one.detail, "remedy": one.remedy}
            for one in verdict.missing
        ],
        "not_proven": list(verdict.not_proven),
        "warnings": observer.warnings,
    }


def register_alias(workspace: Workspace, arguments: Mapping[str, Any]) -> dict[str, Any]:
    """State that an alias points at an admitted version from now on, if the gate says yes to it.

    Raises DeniedError `registered.unknown`, `gate.revoked`, `gate.denied`, which are recorded.
    """
    said = _Said(arguments)
    alias, by = str(arguments["alias"]), str(arguments.get("principal", ""))
    before = said.held(workspace)
    if before is None:
        workspace.record_event("alias.denied", said.fields(alias, by) | {"rule": "no.evidence"})
        raise DeniedError(
            "registered.unknown",
            f"There is no evidence for version {said.version} of {said.model[:80]!r}.",
            "Admit it first: keepstone mlflow admit.",
        )
    verdict = judge(workspace, before.subject, ENDPOINT)
    record_denial(workspace, verdict)
    if not verdict.allowed:
        workspace.record_event("alias.denied", said.fields(alias, by) | {"rule": verdict.rule})
    verdict.require()
    said.location = before.said.location
    said.state(workspace, before.subject, alias)
    workspace.record_event("alias.moved", said.fields(alias, by))
    return {"name": before.subject.name, "digest": str(before.digest)}


class _Said:
    """Which registry, model and version a request is about."""

    def __init__(self, arguments: Mapping[str, Any]) -> None:
        self.registry = str(arguments["registry"])
        self.model = str(arguments["model"])
        self.version = int(arguments["version"])
        self.location = str(arguments.get("location", ""))

    def held(self, workspace: Workspace) -> Registration | None:
        now = workspace.clock.now_ms()
        found = Registrations.of(workspace.evidence, self.registry, now)
        return found.version(self.model, self.version)

    def state(self, workspace: Workspace, subject: Subject, alias: str | None = None) -> None:
        made = Made(TOOL, workspace.clock.now_ms())
        said = Registered(made, self.registry, self.model, self.version, self.location, alias)
        workspace.record(make_statement(subject, said, workspace.keys.observer))

    def fields(self, alias: str, principal: str) -> dict[str, Any]:
        return {
            "registry": self.registry,
            "model": self.model,
            "version": self.version,
            "alias": alias,
            "principal": principal,
        }


def _path(given: object) -> Path | None:
    return None if given is None else Path(str(given))


__all__ = ["Silent", "register_alias", "register_version"]
