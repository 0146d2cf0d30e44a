"""What one may not see does not exist: the same answer, the same work, the same entry."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from keepstone.identity.principal import Grant, Principal
from keepstone.vault.registry.reference import Reference
from keepstone.workspace.registry.registry import CollectRules
from tests.workspace.registry_shop import LOCAL, Shop, opened, person, refused, with_attributes

EVE = person("eve", Grant("puller", ("other",)), Grant("releaser", ("other",)))
# Sees something of the model, and not this version.
NARROW = person("nan", Grant("puller", ("fraud",), versions=(2,)))


def _fill(home: Any) -> None:
    with opened(home) as shop:
        shop.push(1.0)
        shop.push(2.0)
        shop.registry.alias(LOCAL, "fraud@1", "best")
        shop.registry.promote(LOCAL, "fraud@1", "production")


class Counted:
    """Counts what a request asks of the policy."""

    def __init__(self, shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: list[tuple[str, str | None]] = []
        real = shop.workspace.authorizer.decide

        def decide(who: Principal, action: str, model: str | None = None, facts: Any = None) -> Any:
            self.asked.append((action, model))
            return real(who, action, model, facts)

        monkeypatch.setattr(shop.workspace.authorizer, "decide", decide)


_ACTIONS: dict[str, Callable[[Shop, Principal, str], object]] = {
    "pull": lambda shop, who, text: shop.registry.pull(who, text),
    "examine": lambda shop, who, text: shop.registry.pull(who, text, examine="why"),
    "show": lambda shop, who, text: shop.registry.show(who, text),
    "alias": lambda shop, who, text: shop.registry.alias(who, text, "mine"),
    "promote": lambda shop, who, text: shop.registry.promote(who, text, "staging"),
    "withdraw": lambda shop, who, text: shop.registry.withdraw(who, text, "staging"),
    "deprecate": lambda shop, who, text: shop.registry.deprecate(who, text, "old"),
    "diff": lambda shop, who, text: shop.registry.diff(who, text, text),
}


@pytest.mark.parametrize("who", [EVE, NARROW], ids=["eve", "narrow"])
@pytest.mark.parametrize("action", _ACTIONS)
def test_not_yours_is_not_there(
    home: Any, monkeypatch: pytest.MonkeyPatch, action: str, who: Principal
) -> None:
    """Code, sentence, decisions and entries; this fails if one of them tells the two apart."""
    _fill(home)
    with opened(home) as shop:
        digest = shop.workspace.book.catalogue().shelf("fraud").versions[0].digest
        counted = Counted(shop, monkeypatch)
        seen = set()
        for hidden, absent in (
            ("fraud@1", "fraud@9"),
            ("fraud@best", "fraud@none"),
            ("fraud@production", "fraud@staging"),
            (f"fraud@{digest}", f"fraud@sha256:{'0' * 64}"),
            ("fraud@1", "fraus@1"),
        ):
            for text in (hidden, absent):
                counted.asked.clear()
                before = len(shop.accesses())
                error = refused(_ACTIONS[action], shop, who, text)
                entries = shop.accesses()[before:]
                seen.add(
                    (
                        error.code,
                        error.cause.replace(text, "X"),
                        error.next_step,
                        tuple(one[0] for one in counted.asked),
                        tuple(tuple(sorted(one.keys())) for one in entries),
                    )
                )
                assert error.code == "registry.not_found"
                assert [one["asked"].split()[0] for one in entries] == [text]  # type: ignore[attr-defined]
        assert len(seen) == 1


def test_a_whole_model_that_no_grant_names_costs_what_none_costs(
    home: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _fill(home)
    with opened(home) as shop:
        counted = Counted(shop, monkeypatch)
        found = []
        for text in ("fraud", "nothing"):
            counted.asked.clear()
            error = refused(shop.registry.show, EVE, text)
            found.append((error.code, error.cause.replace(text, "X"), len(counted.asked)))
            assert shop.registry.list(EVE, model=text).versions == ()
        assert found[0] == found[1]


def test_a_listing_shows_no_gaps_and_no_counts(home: Any) -> None:
    with_attributes(home)
    with opened(home) as shop:
        for number in range(6):
            team = "risk" if number % 2 else "sales"
            given = {"team": team, "data_class": "public"}
            shop.push(float(number), name="abc"[number % 3], attributes=given)
        risk = person("rita", Grant("puller", where=(("team", ("risk",)),)))
        everything = shop.registry.list(risk).versions
        assert [f"{one['model']}@{one['number']}" for one in everything] == ["a@2", "b@1", "c@2"]
        # Page by page it is the same, and each page but the last is full.
        pages, after = [], None
        while True:
            page = shop.registry.list(risk, after=after, limit=2)
            pages.append(len(page.versions))
            if page.next is None:
                break
            after = page.next
        assert pages == [2, 1]
        # The end is said with the last line, also where hidden ones come after it.
        assert shop.registry.list(risk, limit=3).next is None
        # A place in the order that is nobody's is as good as one that is somebody's.
        assert shop.registry.list(risk, after="a@1").versions == everything
        assert shop.registry.list(risk, after="a@999").versions == everything[1:]
        assert refused(shop.registry.list, risk, after="a@best").code == "registry.bad_page"
        assert refused(shop.registry.list, risk, limit=0).code == "registry.bad_page"


def test_a_pointer_to_a_hidden_version_is_hidden(home: Any) -> None:
    _fill(home)
    with opened(home) as shop:
        shown = shop.registry.show(NARROW, "fraud")
        assert [one["number"] for one in shown["versions"]] == [2]
        assert shown["pointers"] == []


def test_what_a_principal_sees_is_not_what_it_may_do(home: Any) -> None:
    _fill(home)
    reader = person("rob", Grant("reader", ("fraud",)))
    with opened(home) as shop:
        assert shop.registry.show(reader, "fraud@1")["number"] == 1
        for action in ("pull", "alias", "promote", "deprecate"):
            assert refused(_ACTIONS[action], shop, reader, "fraud@1").code == "policy.denied"
        assert refused(shop.registry.collect, reader, CollectRules()).code == "policy.denied"
        assert {one["outcome"] for one in shop.accesses()[-5:]} == {"policy.denied"}
        assert {one["principal"] for one in shop.accesses()[-5:]} == {"user:rob"}


def test_every_request_leaves_one_entry(home: Any) -> None:
    _fill(home)
    with opened(home) as shop:
        for action in (
            lambda: shop.registry.list(LOCAL),
            lambda: shop.registry.show(LOCAL, "fraud"),
            lambda: shop.registry.pull(LOCAL, "fraud@1", trust_ms=None),
            lambda: shop.registry.diff(LOCAL, "fraud@1", "fraud@2"),
            lambda: shop.registry.alias(LOCAL, "fraud@2", "other"),
            lambda: shop.registry.deprecate(LOCAL, "fraud@2", "old"),
            lambda: shop.registry.collect(LOCAL, CollectRules(dry_run=True)),
            lambda: refused(shop.registry.pull, LOCAL, "fraud"),
            lambda: refused(shop.registry.pull, LOCAL, "x" * 5000),
        ):
            before = len(home.entries())
            action()
            assert len(home.entries()) == before + 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("digits", Reference("digits")),
        ("digits@3", Reference("digits", number=3)),
        ("digits@best", Reference("digits", pointer="best")),
    ],
)
def test_references_say_what_they_mean(text: str, expected: Reference) -> None:
    assert Reference.parse(text) == expected
    assert str(expected) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "@3",
        "digits@",
        "digits@0",
        "digits@03",
        "digits@-1",
        "digits@٣",
        "digits@12345678901",
        "digits@@3",
        "digits@a@b",
        "../digits@3",
        "digits/../x@3",
        "digits@../x",
        "digits@sha256:12",
        "digits@SHA256:" + "0" * 64,
        "digits@best\n",
        "digits @3",
        "d" * 200,
        "digits@" + "b" * 200,
        "d\u0456gits@3",
        "digits@3\u202e",
    ],
)
def test_nothing_else_names_a_version(text: str) -> None:
    assert refused(Reference.parse, text).family == "input"
