"""Waivers, attacked: what was signed is all that is waived, and not a day longer."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.cli.main import run
from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.errors import InputError, KeepstoneError
from keepstone.evidence.dsse import Envelope, sign_envelope
from keepstone.evidence.made import TOOL
from keepstone.evidence.vulnerabilities import SCANNED
from keepstone.files import append_line
from keepstone.identity.signing import SigningKey, write_secret_file
from keepstone.scan.vulnerabilities.examined import conclude, examined
from keepstone.scan.vulnerabilities.waiver import (
    MAX_LIFE_MS,
    PAYLOAD_TYPE,
    Waiver,
    known_as,
    read_waiver,
    read_waivers,
    sign_waiver,
)
from keepstone.scan.vulnerabilities.waiving import waived_by
from tests.scan.osv_records import before, judged, record, thing, write_folder

NOW = 1_790_000_000_000
DAY = 86_400_000
DAY_BEFORE = "2026-09-20T12:00:00Z"
KEY, OTHER = SigningKey.generate(), SigningKey.generate()
KEYS = {KEY.key_id: KEY.verifying}


def waiver(**given: Any) -> Waiver:
    base: dict[str, Any] = {
        "ecosystem": "PyPI",
        "package": "foo-bar",
        "version": None,
        "advisories": ("GHSA-aaaa-bbbb-cccc", "CVE-2026-1"),
        "reason": "not reachable",
        "created": NOW,
        "expires": NOW + 30 * DAY,
    }
    return Waiver(**(base | given))


def line(key: SigningKey = KEY, **given: Any) -> bytes:
    return sign_waiver(waiver(**given), key).to_json()


def code(data: bytes, now: int = NOW) -> str:
    """Why the line waives nothing; and in a file it waives nothing either, and is reported."""
    with pytest.raises(KeepstoneError) as caught:
        read_waiver(data, KEYS, now)
    found = read_waivers(data, KEYS, now)
    assert found.held == ()
    assert [one.code for one in found.refused] == [caught.value.code] or b"\n" in data
    return caught.value.code


def forged(document: Any, key: SigningKey = KEY, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Signed by a key that counts, without asking whether anybody would sign it."""
    data = document if isinstance(document, bytes) else json.dumps(document).encode()
    return sign_envelope(payload_type, data, key).to_json()


def test_a_waiver_holds_for_its_time_and_names_its_signer() -> None:
    held = read_waiver(line(), KEYS, NOW + 30 * DAY - 1)
    assert held.waiver == waiver()
    assert held.key_id == KEY.key_id
    assert held.digest == Envelope.parse(line()).payload_digest


def test_expired_to_the_millisecond_and_replayed_for_ever() -> None:
    assert code(line(), NOW + 30 * DAY) == "waiver.expired"
    assert code(line(), NOW + 400 * DAY) == "waiver.expired"


def test_not_yet_valid_but_for_the_skew_of_clocks() -> None:
    read_waiver(line(created=NOW + 300_000), KEYS, NOW)
    assert code(line(created=NOW + 300_001)) == "waiver.not_yet"


def test_another_key_an_unnamed_key_and_no_key() -> None:
    assert code(line(OTHER)) == "signature.unknown_key"
    # The id of a key that counts, under the signature of one that does not.
    envelope = json.loads(line(OTHER))
    envelope["signatures"][0]["keyid"] = KEY.key_id
    assert code(json.dumps(envelope).encode()) == "signature.invalid"
    envelope["signatures"] = []
    assert code(json.dumps(envelope).encode()) == "envelope.malformed"
    assert code(json.dumps(waiver().to_dict()).encode()) == "envelope.malformed"


def test_another_signed_thing_is_no_waiver() -> None:
    assert code(forged(waiver().to_dict(), payload_type="application/json")) == "waiver.malformed"


def test_no_byte_of_a_line_can_be_another() -> None:
    whole = line()
    for at in range(len(whole)):
        for flip in (0x01, 0x20, 0x80):
            changed = bytearray(whole)
            changed[at] ^= flip
            found = read_waivers(bytes(changed), KEYS, NOW)
            assert found.held == ()
            assert found.refused


WHOLE = line()


@given(st.data())
def test_no_part_of_a_line_is_a_waiver(data: st.DataObject) -> None:
    # One for all: the length of a signature differs from one to the next.
    whole = WHOLE
    start = data.draw(st.integers(0, len(whole)))
    end = data.draw(st.integers(start, len(whole)))
    if (start, end) != (0, len(whole)):
        assert read_waivers(whole[start:end], KEYS, NOW).held == ()


@given(st.binary(max_size=300))
def test_any_bytes_are_read_or_reported(data: bytes) -> None:
    assert read_waivers(data, KEYS, NOW).held == ()


@pytest.mark.parametrize(
    "change",
    [
        {"advisories": ["*"]},
        {"advisories": ["GHSA-*"]},
        {"advisories": ["CVE-2026-1", "*"]},
        {"advisories": []},
        {"advisories": ["CVE-2026-1", "CVE-2026-1"]},
        {"advisories": "CVE-2026-1"},
        {"advisories": ["all"]},
        {"advisories": [".*"]},
        {"advisories": [7]},
        {"package": "*"},
        {"package": "foo*"},
        {"package": ""},
        {"package": "foo bar"},
        {"package": "fo\u043e-bar"},
        {"package": "foo-bar\u200b"},
        {"version": "*"},
        {"version": ""},
        {"version": ">=1"[0:2] + " 1"},
        {"version": 1},
        {"reason": ""},
        {"reason": "line\nbreak"},
        {"ecosystem": ""},
        {"schema": "keepstone.waiver"},
        {"expires": "2026-09-21T14:13:20.000Z"},
        {"expires": "never"},
        {"expires": None},
        {"until": "2030-01-01T00:00:00.000Z"},
    ],
    ids=str,
)
def test_what_nobody_may_sign_is_refused_however_it_was_signed(change: dict[str, Any]) -> None:
    assert code(forged(waiver().to_dict() | change)) in ("waiver.malformed", "time.malformed")


def test_the_longest_life_is_366_days() -> None:
    read_waiver(line(expires=NOW + MAX_LIFE_MS), KEYS, NOW)
    with pytest.raises(InputError):
        line(expires=NOW + MAX_LIFE_MS + 1)
    document = waiver(expires=NOW + MAX_LIFE_MS + 1).to_dict()
    assert code(forged(document)) == "waiver.malformed"
    assert code(forged(waiver(expires=NOW).to_dict())) == "waiver.malformed"


def test_a_newer_waiver_is_refused_by_name_and_a_doubled_member_too() -> None:
    document = waiver().to_dict() | {"schema": "keepstone.waiver/v2"}
    assert code(forged(document)) == "waiver.newer_version"
    twice = json.dumps(waiver().to_dict())[:-1] + ', "package": "other"}'
    assert code(forged(twice.encode())) == "json.duplicate_key"


def covers(found: Waiver, package: str, version: str = "1.0", *ids: str, eco: str = "PyPI") -> bool:
    return found.covers(eco, package, version, ids or ("GHSA-aaaa-bbbb-cccc",))


def test_it_covers_its_advisories_by_id_and_by_alias_and_no_others() -> None:
    one = waiver()
    assert covers(one, "foo-bar")
    assert covers(one, "foo-bar", "1.0", "PYSEC-2026-9", "CVE-2026-1")
    for other in ("GHSA-aaaa-bbbb-cccd", "ghsa-aaaa-bbbb-cccc", "CVE-2026-11", "CVE-2026-", "*"):
        assert not covers(one, "foo-bar", "1.0", other)
    assert not one.covers("PyPI", "foo-bar", "1.0", ())


def test_of_several_weaknesses_in_one_each_is_named() -> None:
    chain = ("CVE-2026-1", "CVE-2026-2", "DEBIAN-CVE-2026-1", "GHSA-a", "PYSEC-1")
    for named in (("CVE-2026-1",), ("GHSA-a", "PYSEC-1"), ("GHSA-a", "CVE-2026-2")):
        assert not covers(waiver(advisories=named), "foo-bar", "1.0", *chain)
    assert covers(waiver(advisories=("CVE-2026-1", "CVE-2026-2")), "foo-bar", "1.0", *chain)
    both = waiver(advisories=("DEBIAN-CVE-2026-1", "CVE-2026-2"))
    assert covers(both, "foo-bar", "1.0", *chain)
    one = ("CVE-2026-1", "DEBIAN-CVE-2026-1", "GHSA-a")
    assert covers(waiver(advisories=("GHSA-a",)), "foo-bar", "1.0", *one)


def test_an_attack_is_waived_by_its_own_name_alone() -> None:
    attack = ("CVE-2026-1", "GHSA-a", "MAL-2026-1")
    for named in (("CVE-2026-1",), ("GHSA-a", "CVE-2026-1")):
        assert not covers(waiver(advisories=named), "foo-bar", "1.0", *attack)
    assert covers(waiver(advisories=("MAL-2026-1",)), "foo-bar", "1.0", *attack)
    two = (*attack, "MAL-2026-2", "CVE-2026-2")
    assert not covers(waiver(advisories=("MAL-2026-1",)), "foo-bar", "1.0", *two)
    every = tuple(sorted({*two} - {"GHSA-a"}))
    assert covers(waiver(advisories=every), "foo-bar", "1.0", *two)


def test_a_chain_of_aliases_is_not_waived_by_one_of_its_weaknesses(tmp_path: Path) -> None:
    links = {"GHSA-a": ["CVE-2026-1"], "GHSA-b": ["CVE-2026-2"], "MAL-2026-1": ["GHSA-b"]}
    links["PYSEC-1"] = ["CVE-2026-1", "CVE-2026-2"]
    records = [
        record(one, before("2", "foo-bar"), aliases=other, modified=DAY_BEFORE)
        for one, other in links.items()
    ]
    folder = write_folder(tmp_path / "osv", records)

    def outcome(*named: str) -> Outcome:
        held = read_waivers(line(advisories=named), KEYS, NOW)
        package = thing("1.0", name="foo-bar")
        report = judged(folder, [package], NOW, waived=waived_by(held))
        stated = conclude(
            examined(report, TOOL, "x"),
            held,
            basis=SCANNED,
            tool=TOOL,
            now=NOW,
            report=Digest.of(b""),
        )
        assert stated.outcome is report.outcome
        return report.outcome

    assert outcome("CVE-2026-1") is Outcome.FLAGGED
    assert outcome("CVE-2026-1", "CVE-2026-2") is Outcome.FLAGGED
    assert outcome("MAL-2026-1") is Outcome.FLAGGED
    assert outcome("CVE-2026-1", "CVE-2026-2", "MAL-2026-1") is Outcome.CLEAN


def test_it_covers_its_version_and_no_other() -> None:
    assert covers(waiver(version="1.0"), "foo-bar", "1.0")
    for other in ("1.0.0", "1.0.1", "01.0", "1", "1.0 ", "v1.0"):
        assert not covers(waiver(version="1.0"), "foo-bar", other)


def test_it_covers_its_ecosystem_and_no_other() -> None:
    for other in ("pypi", "npm", "Debian:12", "PyPI:3"):
        assert not covers(waiver(), "foo-bar", eco=other)
    assert not covers(waiver(ecosystem="Debian:12"), "foo-bar", eco="Debian:11")
    assert not covers(waiver(ecosystem="Debian"), "foo-bar", eco="Debian:12")


@pytest.mark.parametrize("name", ["foo-bar", "foo_bar", "Foo.Bar", "FOO--BAR", "foo._-bar"])
def test_names_that_pypi_itself_takes_for_one(name: str) -> None:
    assert covers(waiver(), name)
    assert not covers(waiver(ecosystem="npm"), name, eco="npm") or name == "foo-bar"


@pytest.mark.parametrize(
    "name",
    [
        "foobar",
        "foo-bar2",
        "foo-ba",
        "f\u043e\u043e-bar",  # Cyrillic o
        "foo\u2010bar",  # a hyphen that is not `-`
        "foo\uff0dbar",
        "\uff46oo-bar",
        "foo-bar\u200b",
        "foo-bar ",
        "foo/bar",
        "-foo-bar",
    ],
)
def test_look_alikes_are_other_packages(name: str) -> None:
    assert not covers(waiver(), name)


def test_lower_casing_makes_no_package_of_a_look_alike() -> None:
    # The Kelvin sign and the dotless capital I become `k` and `i` when they are lower-cased.
    assert "\u212a".lower() == "k"
    assert not covers(waiver(package="kit"), "\u212ait")
    assert known_as("PyPI", "\u0130x") != known_as("PyPI", "ix")


@given(st.text(max_size=12), st.text(max_size=12))
def test_two_names_are_one_only_by_pep_503(one: str, other: str) -> None:
    if known_as("PyPI", one) == known_as("PyPI", other) and one != other:
        assert one.isascii()
        assert other.isascii()
        assert re.sub(r"[-_.]+", "-", one).lower() == re.sub(r"[-_.]+", "-", other).lower()
    assert (known_as("npm", one) == known_as("npm", other)) == (one == other)


def test_a_bad_line_hinders_no_good_one() -> None:
    data = b"\n".join([b"{", line(), b"", line(OTHER), line(), line(package="x")]) + b"\n"
    found = read_waivers(data, KEYS, NOW)
    assert [one.waiver.package for one in found.held] == ["foo-bar", "x"]
    assert [(one.line, one.code) for one in found.refused] == [
        (1, "json.malformed"),
        (4, "signature.unknown_key"),
    ]
    assert found.for_("PyPI", "x", "1", ["CVE-2026-1"]) is found.held[1]
    assert found.for_("PyPI", "y", "1", ["CVE-2026-1"]) is None


def test_the_longest_lived_of_several_counts() -> None:
    data = line() + b"\n" + line(expires=NOW + 60 * DAY)
    found = read_waivers(data, KEYS, NOW).for_("PyPI", "foo-bar", "1", ["CVE-2026-1"])
    assert found is not None
    assert found.waiver.expires == NOW + 60 * DAY


def test_a_file_of_more_lines_than_anybody_signs() -> None:
    with pytest.raises(InputError):
        read_waivers(b"\n" * 10_000, KEYS, NOW)


def test_a_line_is_added_after_whatever_is_there(tmp_path: Path) -> None:
    path = tmp_path / "waivers"
    append_line(path, b"one")
    with path.open("ab") as file:
        file.write(b"half of")
    append_line(path, b"two")
    assert path.read_bytes() == b"one\nhalf of\ntwo\n"
    (tmp_path / "link").symlink_to(path)
    with pytest.raises(KeepstoneError):
        append_line(tmp_path / "link", b"three")


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    path = tmp_path / "key.pem"
    write_secret_file(path, KEY.to_pem())
    return path


def waive(key_file: Path, *arguments: str) -> int:
    into = key_file.parent / "waivers.jsonl"
    return run(["waive", *arguments, "--as", str(key_file), "--into", str(into)])


def test_the_command_signs_one_line_after_another(key_file: Path) -> None:
    from keepstone.core.ports import SystemClock

    plain = ("--advisory", "CVE-2026-1", "--reason", "unused")
    assert waive(key_file, "left-pad@1.2", *plain, "--expires", "30d") == 0
    assert waive(key_file, "@scope/x@2", *plain, "--expires", "30d", "--ecosystem", "npm") == 0
    assert waive(key_file, "@scope/x", *plain, "--expires", "30d", "--ecosystem", "npm") == 0
    now = SystemClock().now_ms()
    found = read_waivers((key_file.parent / "waivers.jsonl").read_bytes(), KEYS, now)
    assert [(one.waiver.package, one.waiver.version) for one in found.held] == [
        ("left-pad", "1.2"),
        ("@scope/x", "2"),
        ("@scope/x", None),
    ]
    assert found.refused == ()
    assert 29 * DAY < found.held[0].waiver.expires - now <= 30 * DAY


@pytest.mark.parametrize(
    "arguments",
    [
        ("x", "--advisory", "*", "--reason", "r", "--expires", "30d"),
        ("x", "--advisory", "CVE-2026-1", "--reason", "r", "--expires", "367d"),
        ("x", "--advisory", "CVE-2026-1", "--reason", "r", "--expires", "2020-01-01"),
        ("x", "--advisory", "CVE-2026-1", "--reason", "r", "--expires", "soon"),
        ("x", "--advisory", "CVE-2026-1", "--reason", "", "--expires", "1d"),
        ("x", "--reason", "r", "--expires", "1d"),
        ("*", "--advisory", "CVE-2026-1", "--reason", "r", "--expires", "1d"),
        ("x@", "--advisory", "CVE-2026-1", "--reason", "r", "--expires", "1d"),
    ],
    ids=" ".join,
)
def test_the_command_refuses_what_nobody_would_take(
    key_file: Path, arguments: tuple[str, ...]
) -> None:
    assert waive(key_file, *arguments) == 2
    assert not (key_file.parent / "waivers.jsonl").exists()
