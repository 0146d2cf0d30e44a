"""May these files be loaded as this version? Asked of a workspace, or of a trust bundle.

The registry is not believed: it says which version an alias means and where that version's files
are, and each of the two is held against what was stated when the version was admitted and when
the alias was last moved.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from keepstone.core.digest import Digest
from keepstone.core.subject import Subject
from keepstone.errors import DeniedError, InputError, VerificationError
from keepstone.evidence.registrations import Registration, Registrations
from keepstone.integrations.mlflow.names import subject_name
from keepstone.policy.gate import gate

if TYPE_CHECKING:
    from keepstone.trust import Trusted
    from keepstone.workspace.reading import WorkspaceFollower

REGISTRY = "mlflow"
ENDPOINT = "local"
LATEST = "latest"
STAGE = "stage:"


@dataclass(frozen=True, slots=True)
class Asked:
    """What somebody asked for, and the version that the registry says it is.

    `by` is an alias, `stage:NAME`, `latest`, or empty where the version itself was named.
    """

    model: str
    version: int
    by: str = ""

    def __str__(self) -> str:
        return f"version {self.version} of {self.model[:80]!r}"


class Judge(Protocol):
    """Decides by evidence. Whatever cannot be read is a coded error, and never a yes."""

    def registrations(self) -> Registrations:
        """What is registered now."""
        ...

    def permit(self, subject: Subject) -> None:
        """Return if the policy says yes. Raises DeniedError `gate.revoked`, `gate.denied`."""
        ...


@dataclass(slots=True)
class WorkspaceJudge:
    """Decides as the workspace does now."""

    follower: WorkspaceFollower

    def registrations(self) -> Registrations:
        view = self.follower.view()
        return Registrations.of(view.evidence, REGISTRY, view.now)

    def permit(self, subject: Subject) -> None:
        view = self.follower.view()
        evidence = view.evidence.about(subject.digest, subject.name, view.now)
        gate(view.engine, view.trust, evidence, ENDPOINT).require()


@dataclass(slots=True)
class BundleJudge:
    """Decides as the workspace did when it signed the bundle, until that expires.

    The file is read each time, for a newer bundle takes its place; it is verified when its bytes
    are not those that were verified before.
    """

    path: Path
    opening: Callable[[], Trusted]
    _held: tuple[Digest, Trusted] | None = field(default=None)

    def registrations(self) -> Registrations:
        trusted = self._trusted()
        return Registrations.of(trusted.bundle.evidence, REGISTRY, trusted.now())

    def permit(self, subject: Subject) -> None:
        self._trusted().permit(subject, ENDPOINT)

    def _trusted(self) -> Trusted:
        from keepstone.trust.opening import read_bundle

        digest = Digest.of(read_bundle(self.path))
        if self._held is None or self._held[0] != digest:
            self._held = (digest, self.opening())
        return self._held[1]


def is_configured(environment: Mapping[str, str]) -> bool:
    """Whether the environment names something to decide by."""
    return bool(environment.get("KEEPSTONE_TRUST_BUNDLE") or environment.get("KEEPSTONE_WORKSPACE"))


_judges: dict[tuple[str, ...], Judge] = {}


def judge_from(environment: Mapping[str, str]) -> Judge:
    """What decides here: the bundle in KEEPSTONE_TRUST_BUNDLE, else KEEPSTONE_WORKSPACE.

    KEEPSTONE_TRUST_KEY is the id of the gate's key, which the first bundle needs. Made once for
    each setting. Raises InputError `mlflow.not_configured`, and where they are used, what reading
    a workspace or a bundle raises.
    """
    names = (
        "KEEPSTONE_TRUST_BUNDLE",
        "KEEPSTONE_TRUST_KEY",
        "KEEPSTONE_WORKSPACE",
        "KEEPSTONE_OUTSIDE",
        "XDG_STATE_HOME",
    )
    key = tuple(environment.get(name, "") for name in names)
    if key not in _judges:
        _judges[key] = _make(environment)
    return _judges[key]


def _make(environment: Mapping[str, str]) -> Judge:
    from keepstone.workspace.site import Site, outside_folder

    if bundle := environment.get("KEEPSTONE_TRUST_BUNDLE"):
        path, outside = Path(bundle), outside_folder(environment)
        key = environment.get("KEEPSTONE_TRUST_KEY") or None

        def opening() -> Trusted:
            from keepstone.trust import open_bundle

            return open_bundle(path, outside=outside, trust_key=key)

        return BundleJudge(path, opening)
    if root := environment.get("KEEPSTONE_WORKSPACE"):
        from keepstone.workspace.reading import WorkspaceFollower

        return WorkspaceJudge(WorkspaceFollower(Site.at(Path(root), environment)))
    raise InputError(
        "mlflow.not_configured",
        "Keepstone guards this model, and nothing here says what to decide by.",
        "Set KEEPSTONE_TRUST_BUNDLE and KEEPSTONE_TRUST_KEY, or KEEPSTONE_WORKSPACE.",
    )


def require_version(judge: Judge, asked: Asked, digest: Digest) -> Subject:
    """Return the subject if the files with `digest` may be loaded as what was asked for.

    (1) The version was admitted: somebody stated what it is.
    (2) The registry means the version that the alias, the stage or `latest` was last moved to.
    (3) The files are those of this version.
    (4) The policy says yes to them now.

    Raises DeniedError `mlflow.not_registered`, `mlflow.alias_unproven`, `gate.revoked`,
    `gate.denied`; VerificationError `mlflow.rolled_back`, `mlflow.alias_moved`,
    `mlflow.swapped_version`, `mlflow.changed`, and what a bundle raises.
    """
    held = judge.registrations()
    found = require_meant(held, asked)
    # (3)
    if found.digest != digest:
        raise _other_files(held, asked, found, digest)
    # (4)
    subject = Subject(subject_name(asked.model), digest)
    judge.permit(subject)
    return subject


def require_location(judge: Judge, found: Registration, digest: Digest) -> Subject:
    """As `require_version`, (3) and (4), for files that were asked for by where they lie."""
    asked = Asked(found.said.model, found.said.version)
    if found.digest != digest:
        raise _other_files(judge.registrations(), asked, found, digest)
    judge.permit(found.subject)
    return found.subject


def require_meant(held: Registrations, asked: Asked) -> Registration:
    """As `require_version`, (1) and (2), for who has not fetched the files yet."""
    found = require_registered(held, asked)
    _require_pinned(held, asked)
    return found


def require_registered(held: Registrations, asked: Asked) -> Registration:
    """(1) What the version is. Raises DeniedError `mlflow.not_registered`."""
    found = held.version(asked.model, asked.version)
    if found is None:
        raise DeniedError(
            "mlflow.not_registered",
            f"There is no evidence for {asked}: nobody admitted it.",
            f"keepstone mlflow admit 'models:/{asked.model[:80]}/{asked.version}'"
            " (and a new trust bundle, where one is used)",
        )
    return found


def _require_pinned(held: Registrations, asked: Asked) -> None:
    # (2)
    if not asked.by:
        return
    if asked.by == LATEST:
        newest = held.newest(asked.model)
        if asked.version < newest:
            raise _rolled_back(asked, f"the latest that was admitted is version {newest}")
        return
    shown = asked.by[:80]
    pinned = held.alias(asked.model, asked.by)
    if pinned is None:
        raise DeniedError(
            "mlflow.alias_unproven",
            f"MLflow says that {shown!r} of {asked.model[:80]!r} is version {asked.version},"
            " and nobody moved it there through Keepstone.",
            f"keepstone mlflow promote 'models:/{asked.model[:80]}/{asked.version}'"
            f" --alias {shown}",
        )
    if asked.version < pinned.said.version:
        raise _rolled_back(asked, f"{shown!r} was last moved to version {pinned.said.version}")
    if asked.version != pinned.said.version:
        raise VerificationError(
            "mlflow.alias_moved",
            f"MLflow says that {shown!r} of {asked.model[:80]!r} is version {asked.version}, and"
            f" it was last moved to version {pinned.said.version}.",
            "Get a newer trust bundle if it was moved since; else somebody changed the registry.",
        )


def _rolled_back(asked: Asked, since: str) -> VerificationError:
    return VerificationError(
        "mlflow.rolled_back",
        f"MLflow serves {asked}, an older one: {since}.",
        "Ask for the version by its number if it is meant; else somebody changed the registry.",
    )


def _other_files(
    held: Registrations, asked: Asked, found: Registration, digest: Digest
) -> VerificationError:
    """Say whose files these are, where that is known."""
    other = held.of_digest(digest)
    if other is None:
        return VerificationError(
            "mlflow.changed",
            f"The files of {asked} are not those that were admitted: they are {digest.short},"
            f" not {found.digest.short}.",
            "Somebody changed the artifact store. Restore the files, or register a new version.",
        )
    whose = f"version {other.said.version} of {other.said.model[:80]!r}"
    if other.said.model == asked.model and other.said.version < asked.version:
        return VerificationError(
            "mlflow.rolled_back",
            f"The files of {asked} are those of an older one: {whose}.",
            "Somebody changed the artifact store or the registry. Restore this version's files.",
        )
    return VerificationError(
        "mlflow.swapped_version",
        f"The files of {asked} are those of another: {whose}.",
        "Somebody changed the artifact store or the registry. Restore this version's files.",
    )
