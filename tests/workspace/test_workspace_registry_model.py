"""The registry against a plain model of its rules: every answer, every decision, every state.

The model below is written from the rules alone and shares no code with the registry: who may do
what, what points where, what waits for a second principal, what may be collected.
"""

from __future__ import annotations

import shutil
import tempfile
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule, run_state_machine_as_test

from keepstone.errors import KeepstoneError
from keepstone.identity.principal import Grant, Principal
from keepstone.workspace.book import read_catalogue
from keepstone.workspace.registry.registry import CollectRules
from tests.workspace.registry_shop import Shop, four_eyes, opened, person, with_attributes

HOUR = 3_600_000
LIFETIME = 7 * 24 * HOUR
PEOPLE = ("alice", "bob", "carol")
MODELS = ("fraud", "churn")
TEAMS = ("risk", "sales")
ALIASES = ("best", "next")
STAGES = {"staging": False, "production": True}
ACTIONS = {
    "reader": {"read"},
    "pusher": {"read", "push"},
    "puller": {"read", "pull"},
    "releaser": {"read", "alias", "promote", "deprecate"},
    "keeper": {"collect"},
}


@dataclass
class PlainVersion:
    value: int
    team: str
    pusher: str
    deprecated: bool = False
    until: int | None = None
    collected: bool = False


@dataclass
class PlainGrant:
    role: str
    model: str | None
    versions: tuple[int, ...]
    teams: tuple[str, ...]
    stages: tuple[str, ...]

    def real(self) -> Grant:
        where = []
        if self.teams:
            where.append(("team", self.teams))
        if self.stages:
            where.append(("stage", self.stages))
        return Grant(self.role, (self.model or "*",), self.versions, tuple(where))


@dataclass
class Plain:
    """The rules, as one would tell them."""

    now: int
    versions: dict[str, list[PlainVersion]] = field(default_factory=lambda: {m: [] for m in MODELS})
    pointers: dict[tuple[str, str], int] = field(default_factory=dict)
    proposals: dict[tuple[str, str, int], tuple[str, int]] = field(default_factory=dict)
    revoked: set[int] = field(default_factory=set)
    grants: dict[str, list[PlainGrant]] = field(default_factory=dict)

    def may(
        self, who: str, action: str, model: str | None, number: int = 0, team: str = ""
    ) -> bool:
        stages = {
            name for (of, name), at in self.pointers.items() if (of, at) == (model, number)
        } & set(STAGES)
        if number and not team:
            team = self.versions[str(model)][number - 1].team
        for grant in self.grants[who]:
            narrowed = grant.versions or grant.teams or grant.stages
            if action not in ACTIONS[grant.role] or grant.model not in (None, model):
                continue
            if model is None and narrowed:
                continue
            if grant.versions and number not in grant.versions:
                continue
            if grant.teams and team not in grant.teams:
                continue
            if grant.stages and not stages & set(grant.stages):
                continue
            return True
        return False

    def sees(self, who: str, model: str, number: int) -> bool:
        return 0 < number <= len(self.versions[model]) and self.may(who, "read", model, number)

    def target(self, who: str, action: str, model: str, number: int) -> str | None:
        if not self.sees(who, model, number):
            return "registry.not_found"
        if self.versions[model][number - 1].collected:
            return "registry.collected"
        return None if self.may(who, action, model, number) else "policy.denied"

    def gate(self, model: str, number: int) -> str | None:
        return "gate.revoked" if self.versions[model][number - 1].value in self.revoked else None

    def push(self, who: str, model: str, value: int, team: str) -> str:
        number = len(self.versions[model]) + 1
        if not self.may(who, "push", model, number, team):
            return "policy.denied"
        for at, known in enumerate(self.versions[model], 1):
            if known.value == value and not known.collected:
                return str(at) if known.team == team else "registry.attributes_differ"
        self.versions[model].append(PlainVersion(value, team, f"user:{who}"))
        return str(number)

    def alias(self, who: str, model: str, number: int, name: str) -> str:
        no = self.target(who, "alias", model, number)
        was = self.pointers.get((model, name))
        if no is None and was is not None and not self.may(who, "alias", model, was):
            no = "policy.denied"
        if no is None and self.versions[model][number - 1].deprecated:
            no = "registry.deprecated"
        no = no or self.gate(model, number)
        if no:
            return no
        self.pointers[model, name] = number
        return "unchanged" if was == number else "moved"

    def promote(self, who: str, model: str, number: int, stage: str) -> str:
        no = self.target(who, "promote", model, number)
        if no:
            return no
        version = self.versions[model][number - 1]
        if self.pointers.get((model, stage)) == number:
            return "unchanged"
        if version.deprecated:
            return "registry.deprecated"
        if STAGES[stage]:
            waiting = self.proposals.get((model, stage, number))
            if waiting is None or self.now >= waiting[1]:
                self.proposals[model, stage, number] = (who, self.now + LIFETIME)
                return "proposed"
            if waiting[0] == who:
                return "registry.own_proposal"
            if version.pusher == f"user:{who}":
                return "registry.own_push"
        no = self.gate(model, number)
        if no:
            return no
        self.pointers[model, stage] = number
        for key in [key for key in self.proposals if key[:2] == (model, stage)]:
            del self.proposals[key]
        return "moved"

    def withdraw(self, who: str, model: str, number: int, stage: str) -> str:
        no = self.target(who, "promote", model, number)
        if no:
            return no
        waiting = self.proposals.get((model, stage, number))
        if waiting is None or self.now >= waiting[1]:
            return "registry.no_proposal"
        del self.proposals[model, stage, number]
        return "withdrawn"

    def pull(self, who: str, model: str, number: int | None) -> str:
        if number is None or not self.sees(who, model, number):
            return "registry.not_found"
        if self.versions[model][number - 1].collected:
            return "registry.collected"
        no = self.gate(model, number)
        if no:
            return no
        return str(number) if self.may(who, "pull", model, number) else "policy.denied"

    def deprecate(self, who: str, model: str, number: int, until: int | None) -> str:
        no = self.target(who, "deprecate", model, number)
        if no:
            return no
        version = self.versions[model][number - 1]
        version.deprecated, version.until = True, until
        return "deprecated"

    def collect(self, who: str, keep: int | None) -> str:
        if not self.may(who, "collect", None):
            return "policy.denied"
        gone = []
        for model in MODELS:
            kept = [n for n, v in enumerate(self.versions[model], 1) if not v.collected]
            for number in kept:
                version = self.versions[model][number - 1]
                past = version.until is not None and version.until <= self.now
                old = keep is not None and number not in kept[-keep:]
                pointed = any((of, at) == (model, number) for (of, _), at in self.pointers.items())
                waiting = any(
                    (of, at) == (model, number) and self.now < ends
                    for (of, _, at), (_, ends) in self.proposals.items()
                )
                newest = number in (kept[-1], len(self.versions[model]))
                if (past or old) and not (pointed or waiting or newest):
                    gone.append((model, number))
        for model, number in gone:
            self.versions[model][number - 1].collected = True
        return str(sorted(f"{model}@{number}" for model, number in gone))


_grants = st.lists(
    st.builds(
        PlainGrant,
        st.sampled_from(sorted(ACTIONS)),
        st.sampled_from([None, None, *MODELS]),
        st.sampled_from([(), (), (), (1,), (2, 3)]),
        st.sampled_from([(), (), (), ("risk",), ("sales",)]),
        st.sampled_from([(), (), (), ("production",), ("staging",)]),
    ),
    min_size=1,
    max_size=4,
)
_people, _models = st.sampled_from(PEOPLE), st.sampled_from(MODELS)
_numbers = st.integers(1, 5)


class Machine(RuleBasedStateMachine):
    made: Path

    def __init__(self) -> None:
        super().__init__()
        from tests.workspace.conftest import Home

        self.closing = ExitStack()
        self.root = Path(tempfile.mkdtemp())
        self.closing.callback(shutil.rmtree, self.root, ignore_errors=True)
        shutil.copytree(self.made, self.root, dirs_exist_ok=True)
        self.home: Any = Home(self.root)
        self.shop: Shop = self.closing.enter_context(opened(self.home))
        self.plain = Plain(self.home.clock.now)
        everything = [PlainGrant(role, None, (), (), ()) for role in ACTIONS]
        self.plain.grants = {name: list(everything) for name in PEOPLE}

    def teardown(self) -> None:
        self.closing.close()

    def who(self, name: str) -> Principal:
        return person(name, *(grant.real() for grant in self.plain.grants[name]))

    def same(self, expected: str, action: Any) -> None:
        try:
            found = action()
        except KeepstoneError as error:
            found = error.code
        assert str(found) == expected

    @rule(who=_people, model=_models, value=st.integers(0, 3), team=st.sampled_from(TEAMS))
    def push(self, who: str, model: str, value: int, team: str) -> None:
        expected = self.plain.push(who, model, value, team)
        given = {"team": team, "data_class": "public"}
        self.same(
            expected,
            lambda: (
                self.shop.push(float(value), model, self.who(who), attributes=given).version.number
            ),
        )

    @rule(who=_people, model=_models, number=_numbers, name=st.sampled_from(ALIASES))
    def alias(self, who: str, model: str, number: int, name: str) -> None:
        expected = self.plain.alias(who, model, number, name)
        text = f"{model}@{number}"
        self.same(expected, lambda: self.shop.registry.alias(self.who(who), text, name).state)

    @rule(who=_people, model=_models, number=_numbers, stage=st.sampled_from(sorted(STAGES)))
    def promote(self, who: str, model: str, number: int, stage: str) -> None:
        expected = self.plain.promote(who, model, number, stage)
        text = f"{model}@{number}"
        self.same(expected, lambda: self.shop.registry.promote(self.who(who), text, stage).state)

    @rule(first=_people, second=_people, model=_models, number=_numbers)
    def two_promote(self, first: str, second: str, model: str, number: int) -> None:
        for who in (first, second):
            self.promote(who, model, number, "production")

    @rule(who=_people, model=_models, number=_numbers)
    def withdraw(self, who: str, model: str, number: int) -> None:
        expected = self.plain.withdraw(who, model, number, "production")
        text = f"{model}@{number}"
        self.same(
            expected,
            lambda: self.shop.registry.withdraw(self.who(who), text, "production").state,
        )

    @rule(who=_people, model=_models, number=_numbers)
    def pull(self, who: str, model: str, number: int) -> None:
        expected = self.plain.pull(who, model, number)
        text = f"{model}@{number}"
        self.same(
            expected,
            lambda: self.shop.registry.pull(self.who(who), text, trust_ms=None).version.number,
        )

    @rule(who=_people, model=_models, name=st.sampled_from([*ALIASES, *STAGES]))
    def pull_by_name(self, who: str, model: str, name: str) -> None:
        expected = self.plain.pull(who, model, self.plain.pointers.get((model, name)))
        text = f"{model}@{name}"
        self.same(
            expected,
            lambda: self.shop.registry.pull(self.who(who), text, trust_ms=None).version.number,
        )

    @rule(who=_people, model=_models, number=_numbers, hours=st.sampled_from([None, 0, 5]))
    def deprecate(self, who: str, model: str, number: int, hours: int | None) -> None:
        until = None if hours is None else self.plain.now + hours * HOUR
        expected = self.plain.deprecate(who, model, number, until)

        def act() -> str:
            self.shop.registry.deprecate(self.who(who), f"{model}@{number}", "old", until)
            return "deprecated"

        self.same(expected, act)

    @rule(model=_models, number=_numbers)
    def revoke(self, model: str, number: int) -> None:
        version = self.shop.workspace.book.catalogue().shelf(model).version(number)
        if version is not None:
            self.shop.workspace.record(self.home.revocation(version.subject))
            self.plain.revoked.add(self.plain.versions[model][number - 1].value)

    @rule(who=_people, keep=st.sampled_from([None, 1, 2]))
    def collect(self, who: str, keep: int | None) -> None:
        expected = self.plain.collect(who, keep)
        self.same(
            expected,
            lambda: sorted(
                one.exact
                for one in self.shop.registry.collect(
                    self.who(who), CollectRules(keep=keep)
                ).versions
            ),
        )

    @rule(who=_people, grants=_grants)
    def regrant(self, who: str, grants: list[PlainGrant]) -> None:
        self.plain.grants[who] = grants

    @rule(hours=st.sampled_from([1, 6, 7 * 24]))
    def time_passes(self, hours: int) -> None:
        self.home.clock.now += hours * HOUR
        self.plain.now += hours * HOUR

    @invariant()
    def the_catalogue_is_the_model(self) -> None:
        found = self.shop.workspace.book.catalogue()
        for model in MODELS:
            shelf, plain = found.shelf(model), self.plain.versions[model]
            assert [
                (one.number, dict(one.attributes)["team"], one.pushed_by, one.collected)
                for one in shelf.versions
            ] == [
                (number, one.team, one.pusher, one.collected) for number, one in enumerate(plain, 1)
            ]
            assert {name: one.number for name, one in shelf.pointers.items()} == {
                name: at for (of, name), at in self.plain.pointers.items() if of == model
            }

    @invariant()
    def each_sees_what_the_model_lets_them_see(self) -> None:
        for name in PEOPLE:
            shown = self.shop.registry.list(self.who(name)).versions
            assert [(one["model"], one["number"]) for one in shown] == [
                (model, number)
                for model in sorted(MODELS)
                for number in range(1, len(self.plain.versions[model]) + 1)
                if self.plain.sees(name, model, number)
            ]

    @invariant()
    def every_kept_version_has_its_bytes(self) -> None:
        shelves = self.shop.workspace.book.catalogue().shelves.values()
        named = {(v.name, v.digest.hex) for s in shelves for v in s.versions if not v.collected}
        assert named == self.shop.blobs()


@pytest.fixture(scope="session")
def ready(tmp_path_factory: pytest.TempPathFactory, _made: Path) -> Path:
    from tests.workspace.conftest import Home

    root = tmp_path_factory.mktemp("ready")
    shutil.copytree(_made, root, dirs_exist_ok=True)
    home = Home(root)
    four_eyes(home)
    with_attributes(home)
    return root


def test_the_registry_does_what_the_plain_model_says(ready: Path) -> None:
    machine = type("ReadyMachine", (Machine,), {"made": ready})
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        machine,
        settings=settings(
            max_examples=20,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_what_is_read_anew_is_what_was_kept(ready: Path, tmp_path: Path) -> None:
    """The fold over the whole ledger, and the catalogue that grew entry by entry, are one."""
    from tests.workspace.conftest import Home

    shutil.copytree(ready, tmp_path, dirs_exist_ok=True)
    given = {"team": "risk", "data_class": "public"}
    with opened(Home(tmp_path)) as shop:
        shop.push(1.0, who=person("alice"), attributes=given)
        shop.push(2.0, who=person("bob"), attributes=given)
        shop.registry.alias(person("alice"), "fraud@1", "best")
        shop.registry.promote(person("alice"), "fraud@2", "production")
        grown = shop.workspace.book.catalogue()
        assert read_catalogue(shop.workspace.ledger.reader) == grown
