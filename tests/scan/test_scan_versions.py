"""Versions are put in order as their owners do: dpkg, apk, packaging and npm's semver."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.version import InvalidVersion, Version

from keepstone.scan.packages.versions import Order, UnorderableError, order_of
from keepstone.scan.packages.versions.apk import compare_apk
from keepstone.scan.packages.versions.dpkg import compare_dpkg
from keepstone.scan.packages.versions.pep440 import compare_pep440
from keepstone.scan.packages.versions.semver import compare_semver
from tests.scan.version_pairs import ask_dpkg, pairs, read_table

_SIGNS = {-1: "<", 0: "=", 1: ">"}


def says(order: Order, one: str, other: str) -> str:
    try:
        return _SIGNS[order(one, other)]
    except UnorderableError:
        return "invalid"


@pytest.mark.parametrize(
    ("table", "kind", "order"), [("apk", "alpine", compare_apk), ("semver", "npm", compare_semver)]
)
def test_versions_are_ordered_as_the_owner_of_the_table_does(
    table: str, kind: str, order: Order
) -> None:
    rows = read_table(table)
    assert [(one, other) for one, _, other in rows] == pairs(kind, len(rows))
    wrong = [row for row in rows if says(order, row[0], row[2]) != row[1]]
    assert wrong == []
    assert sum(said != "invalid" for _, said, _ in rows) >= 1_500
    assert {said for _, said, _ in rows} == {"<", "=", ">", "invalid"}


def test_versions_are_ordered_as_dpkg_does(need: Callable[[str, str], str]) -> None:
    need("dpkg", "compare versions of Debian packages")
    asked = pairs("debian", 1_300)
    rows = list(zip(asked, ask_dpkg(asked), strict=True))
    ours = [(pair, says(compare_dpkg, *pair)) for pair, _ in rows]
    # dpkg only warns about characters that no version has; we do not put such in order.
    judged = [(pair, said, mine) for (pair, said), (_, mine) in zip(rows, ours, strict=True)]
    assert [row for row in judged if row[2] not in (row[1], "invalid")] == []
    assert sum(mine != "invalid" for _, _, mine in judged) >= 1_000
    taken = [pair for pair, _, mine in judged if mine == "invalid"]
    both = [one for pair in taken for one in pair]
    checks = [
        subprocess.run(["dpkg", "--validate-version", one], capture_output=True) for one in both
    ]
    assert all(a.returncode or b.returncode for a, b in zip(checks[::2], checks[1::2], strict=True))


def test_versions_are_ordered_as_packaging_does() -> None:
    judged = 0
    for one, other in pairs("pypi", 2_000):
        try:
            first, second = Version(one), Version(other)
        except InvalidVersion:
            assert says(compare_pep440, one, other) == "invalid"
            continue
        judged += 1
        assert says(compare_pep440, one, other) == _SIGNS[(first > second) - (first < second)]
    assert judged >= 1_000


@pytest.mark.parametrize("order", [compare_apk, compare_dpkg, compare_pep440, compare_semver])
@given(one=st.text(max_size=40), other=st.text("0123456789.~-+_:abrcpv!", max_size=40))
def test_any_text_is_ordered_or_refused(order: Order, one: str, other: str) -> None:
    for first, second in ((one, other), (other, other), (other, one)):
        try:
            forwards = order(first, second)
        except UnorderableError:
            continue
        assert forwards == -order(second, first)
        assert (order(first, first), order(second, second)) == (0, 0)


@pytest.mark.parametrize(
    "version", ["9" * 5_000, "1." * 3_000 + "1", "1" + "~" * 5_000, "1-" + "0" * 600, "", " ", "\0"]
)
@pytest.mark.parametrize("order", [compare_apk, compare_dpkg, compare_pep440, compare_semver])
def test_a_version_that_is_none_is_refused_and_costs_nothing(order: Order, version: str) -> None:
    with pytest.raises(UnorderableError):
        order(version, "1")


def test_an_ecosystem_without_a_rule_of_ours_has_none() -> None:
    assert order_of("Debian:12") is compare_dpkg
    assert order_of("Ubuntu:22.04:LTS") is compare_dpkg
    assert order_of("Alpine:v3.19") is compare_apk
    assert [order_of(name) for name in ("conda", "Go", "debian", "PyPIx", "")] == [None] * 5
