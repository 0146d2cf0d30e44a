"""Documents from anywhere: every one is compared or refused by name, and none ends the process."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.errors import InputError
from keepstone.governance.difference import (
    Difference,
    admissions,
    differences,
    has_packages,
    ledger_head,
    parse_bom,
)

DOCUMENT: dict[str, Any] = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "metadata": {
        "timestamp": "2026-01-01T00:00:00.000Z",
        "component": {
            "name": "m",
            "properties": [
                {"name": "keepstone:unknown", "value": "task"},
                {"name": "keepstone:unknown", "value": "metrics"},
            ],
        },
        "properties": [
            {"name": "keepstone:ledger.origin", "value": "keepstone/0"},
            {"name": "keepstone:ledger.size", "value": "3"},
            {"name": "keepstone:ledger.root", "value": "sha256:0"},
            {"name": "keepstone:admission", "value": "local: x"},
        ],
    },
    "components": [{"bom-ref": "pkg:pypi/a@1", "name": "a"}, {"bom-ref": "dataset:1", "name": "d"}],
    "dependencies": [{"ref": "m", "dependsOn": ["dataset:1", "pkg:pypi/a@1"]}],
}
ODD = (None, True, 7, 10**30, 0.5, "", "x\x1b[2J", [], {}, [[]], [{}], {"name": {}}, [None, 1])
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(["name", "value", "ref", "bom-ref", "metadata", "properties", "x"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=20,
)


def compare(document: Any) -> list[Difference]:
    """All that a check does with a document, short of the workspace."""
    parsed = parse_bom(json.dumps(document).encode())
    ledger_head(parsed)
    admissions(parsed)
    has_packages(parsed)
    return differences(parsed, DOCUMENT, packages=True)


def refused(document: Any) -> str | None:
    try:
        compare(document)
    except InputError as error:
        return error.code
    return None


def paths(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    items = value.items() if isinstance(value, dict) else enumerate(value)
    found = []
    for key, item in items:
        found.append((*path, key))
        if isinstance(item, dict | list):
            found += paths(item, (*path, key))
    return found


def test_equal_documents_do_not_differ_whatever_their_order() -> None:
    turned = copy.deepcopy(DOCUMENT)
    turned["components"].reverse()
    turned["metadata"]["component"]["properties"].reverse()
    turned["dependencies"][0]["dependsOn"].reverse()
    assert compare(turned) == []


@pytest.mark.parametrize("path", paths(DOCUMENT), ids=lambda path: ".".join(map(str, path)))
def test_an_odd_value_anywhere_is_a_difference_or_refused(path: tuple[Any, ...]) -> None:
    for odd in ODD:
        document = copy.deepcopy(DOCUMENT)
        at: Any = document
        for step in path[:-1]:
            at = at[step]
        at[path[-1]] = odd
        code = refused(document)
        assert code in (None, "bom.malformed", "bom.other_version")
        moves = path[-1] == "timestamp" or path[:2] == ("metadata", "properties")
        assert code or moves or compare(document)


@given(JSON, st.sampled_from(["metadata", "components", "dependencies", "x"]))
def test_no_document_ends_the_process(value: Any, where: str) -> None:
    assert refused(DOCUMENT | {where: value}) in (None, "bom.malformed", "json.malformed")


def test_a_deep_document_is_refused() -> None:
    deep: Any = "x"
    for _ in range(300):
        deep = [deep]
    assert refused(DOCUMENT | {"x": deep}) == "bom.malformed"


@pytest.mark.parametrize(
    "change",
    [
        # A member whose name looks like a path, behind which the true one is changed.
        {"metadata.component.name": "m"},
        {"serialNumberNote": "x"},
        {"metadata.timestamp": "x"},
        {"vulnerabilities": []},
        {"annotations": {}},
        {"specVersion\u0000": "1.6"},
    ],
)
def test_a_member_that_was_added_is_a_difference(change: dict[str, Any]) -> None:
    document = DOCUMENT | change
    assert len(compare(document)) == 1
    document = copy.deepcopy(document)
    document["metadata"]["component"]["name"] = "evil"
    assert len(compare(document)) == 2


@pytest.mark.parametrize(("one", "other"), [("a\x00", "a?"), (1, True), (1, "1"), (1, 1.0)])
def test_values_that_look_alike_differ(one: Any, other: Any) -> None:
    for left, right in ((one, other), ("x" * 5000 + "1", "x" * 5000 + "2")):
        found = differences(DOCUMENT | {"x": left}, DOCUMENT | {"x": right}, packages=True)
        assert [difference.path for difference in found] == ["x"]


def test_an_item_with_more_than_its_own_members_is_a_difference() -> None:
    for name in ("keepstone:admission", "keepstone:ledger.root"):
        document = copy.deepcopy(DOCUMENT)
        for item in document["metadata"]["properties"]:
            if item["name"] == name:
                item["note"] = "x"
        assert len(compare(document)) == 1
    document = copy.deepcopy(DOCUMENT)
    document["metadata"]["properties"].append({"name": "keepstone:admission.more", "value": "x"})
    assert len(compare(document)) == 2


def test_packages_are_left_out_where_nobody_looked() -> None:
    bare = copy.deepcopy(DOCUMENT)
    del bare["components"][0]
    bare["dependencies"][0]["dependsOn"].remove("pkg:pypi/a@1")
    assert differences(DOCUMENT, bare, packages=False) == []
    assert {one.workspace for one in differences(DOCUMENT, bare, packages=True)} == {None}
