"""Collection: what goes, and everything that keeps a version."""

from __future__ import annotations

from typing import Any

import pytest

from keepstone.core.digest import Digest
from keepstone.errors import InputError
from keepstone.identity.principal import Grant
from keepstone.workspace.admit import Submission, submit
from keepstone.workspace.registry import collecting
from keepstone.workspace.registry.registry import CollectRules, Push
from tests.workspace.observers import Silent
from tests.workspace.registry_shop import LOCAL, Shop, four_eyes, opened, person, refused

DAY = 86_400_000
KEEP_ONE = CollectRules(keep=1)


def _gone(shop: Shop, rules: CollectRules = KEEP_ONE) -> list[int]:
    return [version.number for version in shop.registry.collect(LOCAL, rules).versions]


def _three(shop: Shop) -> None:
    for value in (1.0, 2.0, 3.0):
        shop.push(value)


def test_what_goes_still_lists_and_its_number_stays_taken(home: Any) -> None:
    with opened(home) as shop:
        _three(shop)
        found = shop.registry.collect(LOCAL, KEEP_ONE)
        assert [version.number for version in found.versions] == [1, 2]
        assert found.bytes > 0
        assert len(shop.blobs()) == 1
        listed = shop.registry.list(LOCAL).versions
        assert [one["collected"] for one in listed] == [True, True, False]
        assert shop.registry.show(LOCAL, "fraud@1")["files"] is None
        assert refused(shop.registry.pull, LOCAL, "fraud@1").code == "registry.collected"
        assert shop.push(1.0).version.number == 4
        assert shop.records()[3]["op"] == "collected"


def test_a_dry_run_drops_nothing_and_says_the_same(home: Any) -> None:
    with opened(home) as shop:
        _three(shop)
        before = shop.blobs()
        assert _gone(shop, CollectRules(keep=1, dry_run=True)) == [1, 2]
        assert shop.blobs() == before
        assert [one["op"] for one in shop.records()] == ["pushed"] * 3
        assert _gone(shop) == [1, 2]


def test_an_alias_a_stage_and_a_proposal_keep_a_version(home: Any) -> None:
    four_eyes(home)
    with opened(home) as shop:
        for value in (1.0, 2.0, 3.0, 4.0):
            shop.push(value)
        shop.registry.alias(LOCAL, "fraud@1", "best")
        shop.registry.promote(LOCAL, "fraud@2", "staging")
        shop.registry.promote(LOCAL, "fraud@3", "production")
        assert _gone(shop) == []
        shop.registry.remove_alias(LOCAL, "fraud", "best")
        shop.registry.promote(LOCAL, "fraud@4", "staging")
        home.clock.now += 8 * DAY
        assert _gone(shop) == [1, 2, 3]


def test_a_live_approval_keeps_a_version_until_it_ends(home: Any) -> None:
    with opened(home) as shop:
        _three(shop)
        version = shop.workspace.book.catalogue().shelf("fraud").versions[0]
        shop.workspace.record(home.approval(version.subject, expires=home.clock.now + DAY))
        assert _gone(shop) == [2]
        home.clock.now += DAY
        assert _gone(shop) == [1]


def test_an_admission_in_force_keeps_a_version(home: Any) -> None:
    with opened(home) as shop:
        for scale in (2.0, 3.0):
            submission = Submission.of(home.model(scale=scale), name="scale")
            shop.registry.push(LOCAL, Push(submission), Silent())
        submit(shop.workspace, Submission.of(home.model(scale=2.0), name="scale"), Silent())
        assert _gone(shop) == []
        home.clock.now += DAY
        assert _gone(shop) == [1]


def test_the_newest_stays_whatever_is_said_of_it(home: Any) -> None:
    with opened(home) as shop:
        shop.push(1.0)
        shop.registry.deprecate(LOCAL, "fraud@1", "old", until=home.clock.now)
        assert _gone(shop) == []
        shop.push(2.0)
        assert _gone(shop, CollectRules()) == [1]


def test_deprecated_versions_go_when_their_time_is_past(home: Any) -> None:
    with opened(home) as shop:
        _three(shop)
        shop.registry.deprecate(LOCAL, "fraud@1", "old", until=home.clock.now + DAY)
        shop.registry.deprecate(LOCAL, "fraud@2", "old")
        assert _gone(shop, CollectRules()) == []
        home.clock.now += DAY
        assert _gone(shop, CollectRules()) == [1]


def test_what_is_young_stays(home: Any) -> None:
    with opened(home) as shop:
        _three(shop)
        rules = CollectRules(keep=1, older_than_ms=DAY)
        assert _gone(shop, rules) == []
        home.clock.now += DAY
        assert _gone(shop, rules) == [1, 2]


def test_what_an_endpoint_admitted_is_no_orphan(home: Any) -> None:
    """This fails if every blob that is no version is dropped."""
    with opened(home) as shop:
        submit(shop.workspace, Submission.of(home.model(), name="scale"), Silent())
        home.clock.now += 30 * DAY
        assert shop.registry.collect(LOCAL, CollectRules()).orphans == ()
        assert len(shop.blobs()) == 1


def test_a_crash_between_the_entry_and_the_bytes_is_made_good(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    with opened(home) as shop:
        _three(shop)
        with monkeypatch.context() as dying:
            dying.setattr(type(shop.workspace.store), "delete", _die)
            with pytest.raises(KeyboardInterrupt):
                shop.registry.collect(LOCAL, KEEP_ONE)
    with opened(home) as shop:
        assert [one["collected"] for one in shop.registry.list(LOCAL).versions] == [
            True,
            True,
            False,
        ]
        assert len(shop.registry.collect(LOCAL, CollectRules()).orphans) == 2
        assert len(shop.blobs()) == 1
        assert shop.records()[-1]["op"] == "swept"


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def test_who_may_not_collect_collects_nothing(home: Any) -> None:
    with opened(home) as shop:
        _three(shop)
        for who in (person("eve", Grant("releaser")), person("eve", Grant("keeper", ("fraud",)))):
            assert refused(shop.registry.collect, who, KEEP_ONE).code == "policy.denied"
        assert len(shop.blobs()) == 3


def test_nothing_is_collected_where_the_evidence_cannot_be_read(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keepstone.errors import OperationalError

    def unreadable(*_: object) -> None:
        raise OperationalError("evidence.unreadable", "It may be an approval.")

    with opened(home) as shop:
        _three(shop)
        monkeypatch.setattr(collecting, "live_subjects", unreadable)
        assert refused(shop.registry.collect, LOCAL, KEEP_ONE).code == "evidence.unreadable"
        assert len(shop.blobs()) == 3


def test_rules_that_keep_nothing_are_none() -> None:
    with pytest.raises(InputError):
        CollectRules(keep=0)


def test_an_entry_that_collects_what_must_stay_is_refused(home: Any) -> None:
    """The fold does not believe a collection that no registry would have made."""
    from keepstone.core.subject import Subject
    from keepstone.vault.registry.records import Author, Collected, Swept

    by = Author("user:eve", "api_key", "k")
    with opened(home) as shop:
        _three(shop)
        shop.registry.alias(LOCAL, "fraud@1", "best")
        digest = shop.workspace.book.catalogue().shelf("fraud").versions[1].digest
        for record in (
            Collected(by, "fraud", (1,)),
            Collected(by, "fraud", (3,)),
            Collected(by, "fraud", (9,)),
            Collected(by, "other", (1,)),
            Swept(by, (Subject("fraud", digest),)),
        ):
            with shop.workspace.book.writing():
                assert refused(shop.workspace.book.write, record).code == "registry.inconsistent"
        assert isinstance(digest, Digest)
