"""Findings agree with a plain model of OSV's rule that asks each ecosystem's owner.

Every case runs the whole way: a record in a folder, a package, and whether a finding comes out.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from packaging.version import InvalidVersion, Version

from tests.scan.osv_records import affected, judged, record, thing, write_zip
from tests.scan.version_pairs import ask_dpkg, pairs, read_table

# What the entry says about a bound, and for which signs (version to bound) it means the version.
_ONE_BOUND: list[tuple[Callable[[str], dict[str, Any]], str]] = [
    (lambda at: {"events": [{"introduced": "0"}, {"fixed": at}]}, "<"),
    (lambda at: {"events": [{"fixed": at}, {"introduced": "0"}]}, "<"),
    (lambda at: {"events": [{"introduced": at}]}, "=>"),
    (lambda at: {"events": [{"introduced": "0"}, {"last_affected": at}]}, "<="),
    (lambda at: {"events": [{"introduced": "0"}, {"limit": at}]}, "<"),
    (lambda at: {"events": [{"introduced": at}, {"limit": "*"}]}, "=>"),
    (lambda at: {"events": [{"introduced": at}, {"last_affected": at}]}, "="),
]


def _agree(
    tmp_path: Path, ecosystem: str, cases: list[tuple[str, list[dict[str, Any]], list[str], bool]]
) -> None:
    """Each case: the version, the ranges, the listed versions, and what the model says."""
    assert len(cases) >= 1_000
    records, packages = [], []
    for place, (version, ranges, versions, _) in enumerate(cases):
        entry = affected(f"p{place}", ecosystem=ecosystem)
        records.append(record(f"CVE-{place}", entry | {"ranges": ranges, "versions": versions}))
        packages.append(thing(version, ecosystem, f"p{place}"))
    report = judged(write_zip(tmp_path / "all.zip", records), packages)
    assert report.open == ()
    flagged = {found.package.name for found in report.vulnerabilities}
    model = {f"p{place}" for place, case in enumerate(cases) if case[3]}
    assert flagged ^ model == set()
    assert 200 < len(model) < len(cases) - 200


def _ranges(kind: str, events: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"type": kind, **events}]


def test_findings_agree_with_apks_verdicts(tmp_path: Path) -> None:
    cases = []
    for place, (version, said, bound) in enumerate(read_table("apk")):
        if said == "invalid":
            continue
        make, signs = _ONE_BOUND[place % len(_ONE_BOUND)]
        cases.append((version, _ranges("ECOSYSTEM", make(bound)), [], said in signs))
    _agree(tmp_path, "Alpine:v3.19", cases)


def test_findings_agree_with_npms_verdicts(tmp_path: Path) -> None:
    cases = []
    for place, (version, said, bound) in enumerate(read_table("semver")):
        if said == "invalid":
            continue
        make, signs = _ONE_BOUND[place % len(_ONE_BOUND)]
        cases.append((version, _ranges("SEMVER", make(bound)), [], said in signs))
    _agree(tmp_path, "npm", cases)


def _two_bounds(
    triples: list[tuple[str, str, str]], before: Callable[[str, str], bool]
) -> list[tuple[str, list[dict[str, Any]], list[str], bool]]:
    """Ranges of two bounds, as advisories have them, and two ranges with a gap between."""
    cases = []
    for place, (version, one, other) in enumerate(triples):
        low, high = (other, one) if before(other, one) else (one, other)
        under = before(version, high)
        at_least = not before(version, low)
        inside = at_least and under
        shapes: list[tuple[list[dict[str, Any]], list[str], bool]] = [
            (_ranges("ECOSYSTEM", {"events": [{"introduced": low}, {"fixed": high}]}), [], inside),
            (
                _ranges("ECOSYSTEM", {"events": [{"fixed": high}, {"introduced": low}]}),
                [],
                # Of one version the later event counts.
                inside or (at_least and not before(low, high)),
            ),
            (
                _ranges("ECOSYSTEM", {"events": [{"introduced": low}, {"last_affected": high}]}),
                [],
                at_least and not before(high, version),
            ),
            (
                [
                    {"type": "ECOSYSTEM", "events": [{"introduced": "0"}, {"fixed": low}]},
                    {"type": "ECOSYSTEM", "events": [{"introduced": high}]},
                ],
                [],
                not at_least or not under,
            ),
            (
                _ranges("ECOSYSTEM", {"events": [{"introduced": "0"}, {"fixed": low}]}),
                [high, version],
                True,
            ),
            (
                [{"type": "GIT", "repo": "r", "events": [{"introduced": "0"}]}],
                [high],
                not before(version, high) and not before(high, version),
            ),
        ]
        ranges, versions, said = shapes[place % len(shapes)]
        cases.append((version, ranges, versions, said))
    return cases


def _triples(versions: list[str], count: int) -> list[tuple[str, str, str]]:
    chance = random.Random(7)
    return [
        (chance.choice(versions), chance.choice(versions), chance.choice(versions))
        for _ in range(count)
    ]


def test_findings_agree_with_packaging(tmp_path: Path) -> None:
    def is_version(text: str) -> bool:
        try:
            Version(text)
        except InvalidVersion:
            return False
        return True

    versions = [one for pair in pairs("pypi", 900) for one in pair if is_version(one)]
    triples = _triples(versions, 1_600)

    def before(one: str, other: str) -> bool:
        return Version(one) < Version(other)

    # What is said of a version is said of its builds with a local label, too.
    public = [(Version(version).public, one, other) for version, one, other in triples]
    both = zip(_two_bounds(triples, before), _two_bounds(public, before), strict=True)
    cases = [(*case[:3], case[3] or of_public[3]) for case, of_public in both]
    _agree(tmp_path, "PyPI", cases)


def test_findings_agree_with_dpkg(tmp_path: Path, need: Callable[[str, str], str]) -> None:
    need("dpkg", "compare versions of Debian packages")
    # Few versions in many pairs: dpkg is asked once for each.
    chance = random.Random(3)
    versions = sorted({one for pair in pairs("debian", 300) for one in pair[:1]})
    versions = chance.sample(versions, 60)
    grid = [(one, other) for one in versions for other in versions]
    said = dict(zip(grid, ask_dpkg(grid), strict=True))
    triples = _triples(versions, 1_500)
    _agree(tmp_path, "Debian:12", _two_bounds(triples, lambda one, other: said[one, other] == "<"))
