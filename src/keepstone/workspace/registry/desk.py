"""One principal at the registry: what it may see, what it may do, and the record of what it asked.

What a principal may not see does not exist for it. There is one road to "not found": the same
look-up, the same decision, the same answer and the same entry in the ledger, whether nothing is
there or something that is not theirs.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from keepstone.errors import DeniedError, InputError, KeepstoneError, OperationalError
from keepstone.identity.principal import EVERY_MODEL, Principal, VersionFacts
from keepstone.policy.document import RegistryRules
from keepstone.policy.gate import Verdict
from keepstone.vault.registry.catalogue import Catalogue, Version
from keepstone.vault.registry.records import ALIAS, STAGE, Author
from keepstone.vault.registry.reference import Reference
from keepstone.workspace.judging import judge
from keepstone.workspace.opened import Workspace
from keepstone.workspace.reference import endpoint_of

READ = "model.read"
# Of what is not there: no narrowed grant reaches it.
_NOTHING = VersionFacts(0)
_MAX_ASKED = 200


@dataclass(slots=True)
class Attempt:
    """What is known so far of one request, for its entry."""

    fields: dict[str, Any] = field(default_factory=dict)

    def about(self, version: Version) -> None:
        self.fields |= {
            "model": version.name,
            "number": version.number,
            "digest": version.digest.hex,
        }


def not_found(text: str) -> InputError:
    return InputError(
        "registry.not_found",
        f"The registry has no {printable(text)} for you.",
        "See `keepstone list`, or ask who grants roles on it.",
    )


def printable(text: str) -> str:
    """What somebody asked for, cut short and without what moves a cursor or turns text."""
    return text[:_MAX_ASKED].encode("unicode_escape").decode("ascii")


def rules_of(workspace: Workspace) -> RegistryRules:
    """The policy's rules for a registry. Raises DeniedError `registry.not_in_policy`."""
    rules = workspace.trust.policy.registry
    if rules is None:
        raise DeniedError(
            "registry.not_in_policy",
            "The policy of this workspace has no [registry] section, so it has no registry.",
            "Add one to policy.toml: see `keepstone policy show --profile local`.",
        )
    return rules


class Desk:
    """One request of `who`, under the policy that was in force when it began.

    Raises DeniedError `registry.not_in_policy` where the policy has no `[registry]`.
    """

    def __init__(self, workspace: Workspace, who: Principal) -> None:
        rules = rules_of(workspace)
        self.workspace = workspace
        self.book = workspace.book
        self.who = who
        self.rules: RegistryRules = rules
        self.stages = frozenset(stage.name for stage in rules.stages)

    @property
    def author(self) -> Author:
        return Author(self.who.id, self.who.method, self.who.key_id)

    @property
    def catalogue(self) -> Catalogue:
        return self.book.catalogue()

    @property
    def now(self) -> int:
        return self.workspace.clock.now_ms()

    # The record

    @contextmanager
    def asking(self, action: str, asked: str, *, read: bool = False) -> Iterator[Attempt]:
        """Record an attempt: what is refused always, what is allowed if it is a `read`.

        What is written is its own entry. The entry is durable before the answer goes out.
        """
        attempt = Attempt()
        try:
            yield attempt
        except KeepstoneError as error:
            self._note(action, asked, error.code, attempt)
            raise
        if read:
            self._note(action, asked, "allowed", attempt)

    def _note(self, action: str, asked: str, outcome: str, attempt: Attempt) -> None:
        self.book.note(
            {
                "action": action,
                "asked": printable(asked),
                "outcome": outcome,
                **self.author.to_dict(),
                **attempt.fields,
            }
        )

    # What it may see

    def facts(self, version: Version) -> VersionFacts:
        """What grants look at: the version's attributes, and where it stands."""
        shelf = self.catalogue.shelf(version.name)
        if not shelf.pointers:
            return VersionFacts(version.number, version.attributes)
        stages = {
            ("stage", one.name)
            for one in shelf.pointing_to(version.number)
            if one.kind == STAGE and one.name in self.stages
        }
        return VersionFacts(version.number, version.attributes | stages)

    def sees(self, version: Version) -> bool:
        return self.may(READ, version.name, self.facts(version))

    def may(self, action: str, model: str | None, facts: VersionFacts | None) -> bool:
        """Whether the policy allows it. Raises OperationalError `policy.error`."""
        decision = self.workspace.authorizer.decide(self.who, action, model, facts)
        if decision.errors:
            raise OperationalError(
                "policy.error",
                "The policy could not be evaluated, so the answer is no.",
                "Run `keepstone policy check`.",
            )
        return decision.allowed

    def require(self, action: str, model: str | None, facts: VersionFacts | None) -> None:
        """Return if the policy allows it. Raises DeniedError `policy.denied`, `policy.error`."""
        self.workspace.authorizer.require(self.who, action, model, facts)

    def find(self, text: str, attempt: Attempt, *, kept: bool = True) -> Version:
        """The version that `text` names, if this principal may see it.

        With `kept` its bytes must still be there. Raises InputError `registry.not_found` for what
        is not there and for what is not theirs, `registry.which_version` for a model alone,
        `registry.collected`, and as `Reference.parse`.
        """
        wanted = Reference.parse(text)
        if wanted.is_whole:
            raise InputError(
                "registry.which_version",
                "A model was named, and no version of it.",
                f"Write {wanted.name}@3, {wanted.name}@ALIAS or {wanted.name}@sha256:DIGEST.",
            )
        version = self.catalogue.find(wanted, self.stages)
        facts = _NOTHING if version is None else self.facts(version)
        if not self.may(READ, wanted.name, facts) or version is None:
            raise not_found(text)
        attempt.about(version)
        if kept and version.collected:
            raise InputError(
                "registry.collected",
                f"The bytes of {version.exact} were collected.",
                "Push it again: it becomes a new version.",
            )
        return version

    def visible(self, name: str) -> tuple[Version, ...]:
        """Every version of a model that this principal may see.

        At least one decision is made; a model that no grant names costs no more than none at all.
        """
        seen = self.may(READ, name, _NOTHING)
        grants = self.workspace.trust.policy.grants_of(self.who)
        if not any(one.models == (EVERY_MODEL,) or name in one.models for one in grants):
            return ()
        versions = self.catalogue.shelf(name).versions
        return tuple(one for one in versions if seen or self.sees(one))

    # What it may do

    def on_version(self, text: str, action: str, attempt: Attempt) -> Version:
        """The version that `text` names, if this principal sees it and may do `action` to it."""
        version = self.find(text, attempt)
        self.require(action, version.name, self.facts(version))
        return version

    def endpoint_of(self, text: str) -> str:
        """Where the gate judges what `text` names: at the alias or stage, else at the library."""
        return endpoint_of(Reference.parse(text))

    def verdict(self, version: Version, endpoint: str) -> Verdict:
        """What the gate says now. Raises OperationalError `evidence.unreadable`."""
        return judge(self.workspace, version.subject, endpoint)

    def pointer_kind(self, name: str) -> str:
        return STAGE if name in self.stages else ALIAS


def verdict_fields(verdict: Verdict) -> dict[str, Any]:
    """What the record keeps of a verdict."""
    return {"rule": verdict.rule, "policy": verdict.policy.hex}
