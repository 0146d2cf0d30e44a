"""Entries: what may be appended, what is indexed, and what an entry id names."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.canonical import canonical
from keepstone.errors import InputError, VerificationError
from keepstone.ledger import (
    MAX_ENTRY,
    EntryHead,
    EntryId,
    Kind,
    index_keys,
    make_entry,
    parse_entry,
    read_head,
)
from keepstone.ledger.tree import leaf_hash


def test_an_entry_is_canonical_and_reads_back() -> None:
    body = make_entry(Kind.EVENT, 17, {"event": "served", "a": "x"})
    assert body == b'{"a":"x","event":"served","kind":"event","t":17}'
    assert read_head(body) == EntryHead(Kind.EVENT, 17)
    assert parse_entry(body) == {"a": "x", "event": "served", "kind": "event", "t": 17}


def test_statements_and_events_are_indexed() -> None:
    keys = {kind: index_keys(make_entry(kind, 1, {})) for kind in Kind}
    assert keys == {
        Kind.STATEMENT: ("statement",),
        Kind.EVENT: ("event",),
        Kind.PREDICTION: (),
        Kind.REFUSALS: (),
        Kind.REGISTRY: ("registry",),
        Kind.ACCESS: (),
    }


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"1",
        b"{}",
        b'{"kind":"event"}',
        b'{"t":1}',
        b'{"kind":"other","t":1}',
        b'{"kind":1,"t":1}',
        b'{"kind":"event","t":"1"}',
        b'{"kind":"event","t":-1}',
        b'{"kind":"event","t":true}',
        b'{"kind":"event","t":1.5}',
        b'{"kind":"event","t":9007199254740992}',
        b'{"kind":"event","t":1}x',
        b'{"kind":"event","t":1',
        b'{"kind":"\xff","t":1}',
    ],
)
def test_what_is_no_entry(body: bytes) -> None:
    with pytest.raises(InputError) as refused:
        read_head(body)
    assert refused.value.code == "entry.malformed"


def test_nothing_inside_an_entry_sets_its_kind() -> None:
    body = canonical(
        {"kind": "statement", "t": 1, "x": {"kind": "prediction"}, '"kind': "prediction"}
    )
    assert index_keys(body) == ("statement",)


def test_an_entry_named_twice_is_refused_when_read_whole() -> None:
    with pytest.raises(InputError, match=r"json\.malformed|json\.duplicate_key"):
        parse_entry(b'{"kind":"event","kind":"statement","t":1}')


def test_entries_hold_64_kib() -> None:
    empty = len(make_entry(Kind.EVENT, 1, {"x": ""}))
    assert len(make_entry(Kind.EVENT, 1, {"x": "a" * (MAX_ENTRY - empty)})) == MAX_ENTRY
    with pytest.raises(InputError, match=r"entry\.too_large"):
        make_entry(Kind.EVENT, 1, {"x": "a" * (MAX_ENTRY - empty + 1)})


@pytest.mark.parametrize("field", ["kind", "t"])
def test_fields_cannot_name_the_head(field: str) -> None:
    with pytest.raises(InputError, match=r"entry\.malformed"):
        make_entry(Kind.EVENT, 1, {field: "statement"})


@given(
    st.sampled_from(Kind),
    st.integers(0, 2**53 - 1),
    st.dictionaries(
        st.text().filter(lambda k: k not in ("kind", "t")),
        st.recursive(
            st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | st.text(),
            lambda x: st.lists(x, max_size=3) | st.dictionaries(st.text(), x, max_size=3),
            max_leaves=8,
        ),
        max_size=4,
    ),
)
def test_any_entry_goes_there_and_back(kind: Kind, t: int, fields: dict[str, object]) -> None:
    body = make_entry(kind, t, fields)
    assert parse_entry(body) == {**fields, "kind": kind, "t": t}
    assert json.loads(body) == parse_entry(body)


@given(st.binary(max_size=200))
def test_no_bytes_crash_the_head_reader(data: bytes) -> None:
    with contextlib.suppress(InputError):
        assert read_head(data).kind in Kind


@given(st.integers(0, 10**18), st.binary())
def test_entry_ids(index: int, body: bytes) -> None:
    entry_id = EntryId.of(index, leaf_hash(body))
    assert EntryId.parse(str(entry_id)) == entry_id
    entry_id.check(body)
    with pytest.raises(VerificationError, match=r"entry\.id_mismatch"):
        entry_id.check(body + b"x")


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ks-1",
        "ks--1-0123456789abcdef",
        "ks-01-0123456789abcdef",
        "ks-1-0123456789ABCDEF",
        "ks-1-0123456789abcde",
        "ks-1-0123456789abcdef\n",
        "ks-\u0661-0123456789abcdef",
    ],
)
def test_what_is_no_entry_id(text: str) -> None:
    with pytest.raises(InputError, match=r"entry\.bad_id"):
        EntryId.parse(text)
