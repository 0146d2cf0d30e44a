"""The catalogue as a fold: what records say, and what no registry would have written."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.core.subject import Subject
from keepstone.errors import InputError, OperationalError
from keepstone.ledger import Kind, make_entry
from keepstone.vault.registry.catalogue import Catalogue
from keepstone.vault.registry.records import (
    ALIAS,
    STAGE,
    Author,
    Collected,
    Deprecated,
    Moved,
    Proposed,
    Pushed,
    Record,
    Swept,
    Withdrawn,
    read_record,
    record_body,
)
from keepstone.vault.registry.reference import Reference

ALICE, BOB, CAROL = (Author(f"user:{name}", "api_key", "k") for name in ("alice", "bob", "carol"))
NOW = 1_790_000_000_000
POLICY = Digest("ab" * 32)


def _digest(number: int) -> Digest:
    return Digest(f"{number:064x}")


def pushed(number: int, content: int | None = None, by: Author = ALICE) -> Pushed:
    return Pushed(
        by=by,
        model="fraud",
        number=number,
        digest=_digest(number if content is None else content),
        size=10,
        sealed=100,
        files=1,
        format="onnx",
        outcome=Outcome.CLEAN,
        attributes=(("team", "risk"),),
        contract=None,
        note="",
    )


def moved(number: int | None, was: int | None = None, **given: Any) -> Moved:
    base = Moved(
        by=BOB,
        model="fraud",
        kind=ALIAS,
        pointer="best",
        number=number,
        was=was,
        policy=POLICY,
        evidence=(),
        proposal=None,
        note="",
    )
    return replace(base, **given)


def proposed(number: int, was: int | None = None, by: Author = BOB) -> Proposed:
    return Proposed(by, "fraud", "live", number, _digest(number), was, NOW + 1000, "")


def confirmed(number: int, proposal: int, by: Author = CAROL, **given: Any) -> Moved:
    named = {"kind": STAGE, "pointer": "live", "proposal": proposal, "by": by}
    return moved(number, **(named | given))


def fold(*records: Record | tuple[Record, int]) -> Catalogue:
    entries = []
    for index, item in enumerate(records):
        record, at = item if isinstance(item, tuple) else (item, NOW)
        entries.append((index, record_body(record, at)))
    return Catalogue().extended(entries)


def test_the_catalogue_is_what_the_records_say() -> None:
    found = fold(pushed(1), pushed(2), moved(1), Deprecated(BOB, "fraud", 2, "old", None))
    assert found.require_readable() is found
    shelf = found.shelf("fraud")
    assert [version.exact for version in shelf.versions] == ["fraud@1", "fraud@2"]
    assert found.find(Reference.parse("fraud@best"), frozenset()) == shelf.versions[0]
    assert shelf.versions[1].deprecated is not None
    assert (found.sealed, found.size) == (200, 4)
    # A name of a stage is the stage's, and nothing else's.
    assert found.find(Reference.parse("fraud@best"), frozenset({"best"})) is None


@pytest.mark.parametrize(
    "records",
    [
        [pushed(2)],
        [pushed(1), pushed(1, 5)],
        [pushed(1), pushed(3)],
        [pushed(1), pushed(2, content=1)],
        [pushed(1), moved(2)],
        [pushed(1), moved(1, was=1)],
        [pushed(1), moved(1), moved(1)],
        [pushed(1), moved(None)],
        [pushed(1), moved(1, kind=STAGE), moved(None, was=1, kind=STAGE)],
        [pushed(1), Deprecated(BOB, "fraud", 1, "old", None), moved(1)],
        [pushed(1), pushed(2), Collected(BOB, "fraud", (1,)), moved(1)],
        [pushed(1), pushed(2), Collected(BOB, "fraud", (1, 1))],
        [pushed(1), Collected(BOB, "fraud", (1,))],
        [pushed(1), pushed(2), moved(1), Collected(BOB, "fraud", (1,))],
        [pushed(1), pushed(2), proposed(1), Collected(BOB, "fraud", (1,))],
        [pushed(1), Swept(BOB, (Subject("fraud", _digest(1)),))],
        [pushed(1), Withdrawn(BOB, "fraud", 0)],
        [Deprecated(BOB, "fraud", 1, "old", None)],
        # Four eyes.
        [pushed(1), confirmed(1, proposal=0)],
        [pushed(1), proposed(1), confirmed(1, proposal=0)],
        [pushed(1), proposed(1), confirmed(1, proposal=1, by=BOB)],
        [pushed(1), proposed(1), confirmed(1, proposal=1, by=replace(BOB, key="another"))],
        [pushed(1), proposed(1), confirmed(1, proposal=1, by=ALICE)],
        [pushed(1), proposed(1), (confirmed(1, proposal=1), NOW + 1000)],
        [pushed(1), pushed(2), proposed(1), confirmed(2, proposal=2)],
        [pushed(1), proposed(1), confirmed(1, proposal=1, pointer="other")],
        [pushed(1), proposed(1), Withdrawn(BOB, "fraud", 1), confirmed(1, proposal=1)],
        [pushed(1), proposed(1), confirmed(1, proposal=1), confirmed(1, proposal=1, was=1)],
        [pushed(1), replace(proposed(1), digest=_digest(9))],
        [pushed(1), proposed(1, was=1)],
        [pushed(1), replace(proposed(1), expires=NOW)],
    ],
)
def test_what_no_registry_would_have_done_ends_it(records: list[Any]) -> None:
    """Each rule is checked again when the ledger is read; an entry that breaks one is believed in
    nothing, and nothing after it is taken."""
    found = fold(*records)
    assert found.fault is not None
    assert found.fault.entry == len(records) - 1
    assert found.fault.code == "registry.inconsistent"
    with pytest.raises(OperationalError) as caught:
        found.require_readable()
    assert caught.value.code == "registry.unreadable"
    later = found.extended([(99, record_body(pushed(2), NOW))])
    assert later.fault == found.fault
    assert fold(*records[:-1]).fault is None


def test_a_confirmation_by_a_second_principal_is_taken() -> None:
    found = fold(pushed(1), proposed(1), (confirmed(1, proposal=1), NOW + 999))
    assert found.fault is None
    assert found.shelf("fraud").at(STAGE, "live") == 1


_SOME = [
    pushed(1),
    moved(1, evidence=(POLICY,)),
    moved(None, was=1),
    proposed(1),
    Withdrawn(BOB, "fraud", 3),
    Deprecated(BOB, "fraud", 1, "old", NOW),
    Collected(BOB, "fraud", (1, 2)),
    Swept(BOB, (Subject("fraud", POLICY),)),
]


@pytest.mark.parametrize("record", _SOME, ids=lambda record: record.op)
def test_records_come_back_as_they_were_written(record: Record) -> None:
    assert read_record(record_body(record, NOW)) == (record, NOW)


@pytest.mark.parametrize("record", _SOME, ids=lambda record: record.op)
def test_no_field_of_a_record_is_left_out_added_or_of_another_kind(record: Record) -> None:
    said = json.loads(record_body(record, NOW))
    for name in said:
        if name in ("kind", "t"):
            continue
        for value in (..., {"x": 1}, -1, [1.5], "\x1b[2J"):
            changed = dict(said)
            if value is ...:
                del changed[name]
            elif value == [1.5]:
                changed[name] = [None]
            else:
                changed[name] = value
            rest = {key: item for key, item in changed.items() if key not in ("kind", "t")}
            with pytest.raises(InputError):
                read_record(make_entry(Kind.REGISTRY, NOW, rest))
    rest = {key: item for key, item in said.items() if key not in ("kind", "t")}
    for wrong in (rest | {"more": 1}, rest | {"op": "unmade"}, rest | {"by": {}}):
        with pytest.raises(InputError):
            read_record(make_entry(Kind.REGISTRY, NOW, wrong))
    with pytest.raises(InputError):
        read_record(make_entry(Kind.EVENT, NOW, rest))


def test_what_is_flagged_is_no_version() -> None:
    with pytest.raises(InputError):
        record_body(replace(pushed(1), outcome=Outcome.FLAGGED), NOW)


@given(st.binary(max_size=300))
def test_bytes_of_whatever_kind_end_it_with_a_code(data: bytes) -> None:
    found = Catalogue().extended([(0, data)])
    assert found.fault is not None
    assert "." in found.fault.code


@given(st.text(max_size=80))
def test_any_text_is_a_reference_or_a_coded_refusal(text: str) -> None:
    try:
        found = Reference.parse(text)
    except InputError:
        return
    assert Reference.parse(str(found)) == found
