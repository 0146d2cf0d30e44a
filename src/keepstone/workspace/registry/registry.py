"""The registry of one owned workspace, as whoever serves it holds it: one method per operation.

Each takes the principal who asks, authenticated by the caller, and leaves one entry in the
ledger: what was done, or who asked for what and how that was answered. Any thread may call.
Everything raises DeniedError `registry.not_in_policy` without a `[registry]` in the policy, and
what is not there or not theirs is InputError `registry.not_found`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keepstone.identity.principal import Principal
from keepstone.vault.overlap import Sink
from keepstone.vault.registry.catalogue import Version
from keepstone.vault.registry.quota import require_room
from keepstone.vault.registry.release import Release
from keepstone.workspace.opened import Workspace
from keepstone.workspace.registry import collecting, looking, moving, pulling
from keepstone.workspace.registry.collecting import Collection, CollectRules
from keepstone.workspace.registry.desk import Attempt, Desk, not_found
from keepstone.workspace.registry.looking import Page
from keepstone.workspace.registry.moving import Move
from keepstone.workspace.registry.pulling import DAY_MS, Pulled
from keepstone.workspace.registry.requests import Push, Pushed

if TYPE_CHECKING:
    from keepstone.workspace.intake import Observer


class Registry:
    """The operations. It keeps nothing itself: the state is the workspace's `book`."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace

    def attempt(
        self, who: Principal, action: str, asked: str, *, read: bool = False
    ) -> AbstractContextManager[Attempt]:
        """Record what the block refuses, and with `read` what it allows; see `Desk.asking`."""
        return self._desk(who).asking(action, asked, read=read)

    def require_visible(self, who: Principal, model: str) -> None:
        """Return if `who` sees any version of `model`, else raise `registry.not_found`."""
        if not self._desk(who).visible(model):
            raise not_found(model)

    def require_room(self, who: Principal, model: str, size: int) -> None:
        """Return if a version of `size` bytes more fits, else raise `registry.quota`."""
        desk = self._desk(who)
        require_room(desk.rules, desk.catalogue, model, size)

    def require_welcome(
        self, who: Principal, name: str, attributes: Mapping[str, str], size: int
    ) -> None:
        """Return if a push would be taken now; for a server, before it takes the bytes."""
        from keepstone.workspace.registry import pushing

        pushing.require_welcome(self._desk(who), name, attributes, size)

    def push(self, who: Principal, asked: Push, observer: Observer) -> Pushed:
        """Bring a model in as the next version under its name; see `pushing.push`."""
        # Imported here: it brings every scanner and loader along, which nothing else needs.
        from keepstone.workspace.registry import pushing

        return pushing.push(self._desk(who), asked, observer)

    def pull(
        self,
        who: Principal,
        text: str,
        *,
        examine: str | None = None,
        trust_ms: int | None = DAY_MS,
    ) -> Pulled:
        """Decide whether a version may go out, and record it; see `pulling.pull`."""
        return pulling.pull(self._desk(who), text, examine=examine, trust_ms=trust_ms)

    def write_out(self, granted: Release, target: Path) -> None:
        """Write what `pull` released to `target`, whole or not at all; see `vault.unpack`."""
        pulling.write_out(self._workspace, granted, target)

    def send_out(self, granted: Release, begin: Callable[[int], Sink]) -> None:
        """Give what `pull` released to the sink that `begin` opens; see `pulling.send_out`."""
        pulling.send_out(self._workspace, granted, begin)

    def list(
        self,
        who: Principal,
        *,
        model: str | None = None,
        after: str | None = None,
        limit: int = 1000,
    ) -> Page:
        """The versions that `who` may see, page by page; see `looking.list_versions`."""
        return looking.list_versions(self._desk(who), model, after, limit)

    def show(self, who: Principal, text: str) -> dict[str, Any]:
        """A model, or one version and what is known of it; see `looking.show`."""
        return looking.show(self._desk(who), text)

    def diff(self, who: Principal, first: str, second: str) -> dict[str, Any]:
        """How two versions differ; see `looking.diff`."""
        return looking.diff(self._desk(who), first, second)

    def alias(self, who: Principal, text: str, name: str, note: str = "") -> Move:
        """Point an alias to a version; see `moving.alias`."""
        return moving.alias(self._desk(who), text, name, note)

    def remove_alias(self, who: Principal, model: str, name: str, note: str = "") -> Move:
        """Take an alias away; see `moving.remove_alias`."""
        return moving.remove_alias(self._desk(who), model, name, note)

    def promote(self, who: Principal, text: str, stage: str, note: str = "") -> Move:
        """Move a stage to a version, propose that, or confirm it; see `moving.promote`."""
        return moving.promote(self._desk(who), text, stage, note)

    def withdraw(self, who: Principal, text: str, stage: str) -> Move:
        """Take back a proposal; see `moving.withdraw`."""
        return moving.withdraw(self._desk(who), text, stage)

    def deprecate(
        self, who: Principal, text: str, reason: str, until: int | None = None
    ) -> Version:
        """Let nothing newly point to a version; see `moving.deprecate`."""
        return moving.deprecate(self._desk(who), text, reason, until)

    def collect(self, who: Principal, rules: CollectRules) -> Collection:
        """Drop what nobody names and nothing keeps; see `collecting.collect`."""
        return collecting.collect(self._desk(who), rules)

    def _desk(self, who: Principal) -> Desk:
        return Desk(self._workspace, who)


__all__ = ["CollectRules", "Collection", "Move", "Page", "Pulled", "Push", "Pushed", "Registry"]
