"""Digests, subjects, findings and times: values that any ring may trust."""

from __future__ import annotations

import hashlib
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.digest import Digest, FileDigest, artifact_digest, check_relative_path
from keepstone.core.finding import Outcome, worst
from keepstone.core.ports import SystemClock, SystemRandomness, parse_rfc3339, rfc3339
from keepstone.core.subject import Subject, check_name
from keepstone.errors import (
    DeniedError,
    Exit,
    InputError,
    KeepstoneError,
    OperationalError,
    VerificationError,
)

A, B = Digest.of(b"a"), Digest.of(b"b")


# --- digests ----------------------------------------------------------------------------------


def test_a_digest_prints_with_its_algorithm_and_reads_back() -> None:
    assert str(A) == "sha256:" + hashlib.sha256(b"a").hexdigest()
    assert Digest.parse(str(A)) == Digest.parse(A.hex) == A
    assert A.raw == hashlib.sha256(b"a").digest()
    assert A.hex.startswith(A.short)
    assert len(A.short) == 12
    assert Digest.of(memoryview(b"a")) == A


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:",
        "0" * 63,
        "0" * 65,
        "G" * 64,
        A.hex.upper(),
        A.hex + "\n",
        "sha512:" + A.hex,
        "sha256:sha256:" + A.hex,
    ],
)
def test_what_is_not_a_sha256_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"digest\.malformed"):
        Digest.parse(text)


FILES = [FileDigest("a", 1, A), FileDigest("d/b", 1, B)]


def test_the_listing_order_of_an_artifact_does_not_count() -> None:
    assert artifact_digest(FILES) == artifact_digest(reversed(FILES))


@pytest.mark.parametrize(
    "other",
    [
        [FileDigest("c", 1, A), FileDigest("d/b", 1, B)],
        [FileDigest("a", 1, B), FileDigest("d/b", 1, A)],
        [FileDigest("a", 2, A), FileDigest("d/b", 1, B)],
        FILES[:1],
        [*FILES, FileDigest("e", 1, A)],
        [FileDigest(".", 1, A)],
    ],
)
def test_path_size_and_content_each_change_the_digest(other: list[FileDigest]) -> None:
    assert artifact_digest(other) != artifact_digest(FILES)


@pytest.mark.parametrize(
    ("files", "code"),
    [
        ([], "artifact.empty"),
        ([FileDigest("a", 1, A), FileDigest("a", 1, B)], "artifact.duplicate_path"),
        ([FileDigest("a", 1, A), FileDigest("a/b", 1, B)], "artifact.path_conflict"),
        ([FileDigest(".", 1, A), FileDigest("b", 1, B)], "artifact.path_conflict"),
        ([FileDigest("../a", 1, A)], "path.unsafe"),
    ],
)
def test_listings_that_no_folder_can_have_are_refused(files: list[FileDigest], code: str) -> None:
    with pytest.raises(InputError) as caught:
        artifact_digest(files)
    assert caught.value.code == code


@pytest.mark.parametrize(
    "path", ["", "/", "/a", "a/", "a//b", "..", "../a", "a/../b", "./a", "a/.", "a\\b", "a\0b"]
)
def test_paths_that_could_lead_elsewhere_are_refused(path: str) -> None:
    with pytest.raises(InputError, match=r"path\.unsafe"):
        check_relative_path(path)


@pytest.mark.parametrize("path", [".", "a", "a/b", "...", ".git", "a b/ü"])
def test_plain_paths_pass(path: str) -> None:
    assert check_relative_path(path) == path


# --- subjects and findings --------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a", "0", "digits-v1.2_x", "a" * 64])
def test_names_fit_for_urls_and_policies_pass(name: str) -> None:
    assert check_name(name) == name
    assert str(Subject(name, A)) == f"{name}@{A}"


@pytest.mark.parametrize(
    "name", ["", "A", "-a", "a-", ".a", "a..b", "a/b", "a b", 'a"b', "a\n", "é", "a" * 65]
)
def test_other_names_are_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"name\.invalid"):
        Subject(name, A)


def test_not_evaluated_never_reads_as_clean() -> None:
    clean, flagged, unknown = Outcome.CLEAN, Outcome.FLAGGED, Outcome.NOT_EVALUATED
    assert worst([]) is unknown
    assert worst([clean]) is clean
    assert worst([clean, unknown]) is unknown
    assert worst([clean, unknown, flagged]) is flagged


# --- time -------------------------------------------------------------------------------------

LAST = parse_rfc3339("9999-12-31T23:59:59.999Z")


@given(st.integers(0, LAST))
def test_times_read_back_to_the_millisecond(milliseconds: int) -> None:
    text = rfc3339(milliseconds)
    assert parse_rfc3339(text) == milliseconds
    assert len(text) == 24


def test_known_times() -> None:
    assert rfc3339(0) == "1970-01-01T00:00:00.000Z"
    noon = int(datetime(2026, 11, 23, 12, tzinfo=UTC).timestamp()) * 1000
    for text in (
        "2026-11-23T12:00:00Z",
        "2026-11-23t12:00:00.000999999z",
        "2026-11-23 13:30:00.0+01:30",
        "2026-11-23T11:59:00-00:01",
    ):
        assert parse_rfc3339(text) == noon


@pytest.mark.parametrize(
    "text",
    ["", "2026-11-23", "2026-11-23T12:00:00", "2026-11-23T12:00Z", "20261123T120000Z",
     "2026-W10-1T00:00:00Z", "2026-11-23T12:00:00,5Z", "2026-11-23T12:00:60Z",
     "2026-02-30T00:00:00Z", "2026-11-23T24:00:00Z", "2026-11-23T12:00:00Z\n",
     "2026-11-23T12:00:00+25:00", "2026-11-23T12:00:00.Z", "٢٠٢٦-11-23T12:00:00Z"],
)  # fmt: skip
def test_other_forms_of_time_are_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"time\.malformed"):
        parse_rfc3339(text)


def test_times_that_cannot_be_written_are_refused() -> None:
    for milliseconds in (-1, LAST + 1, 10**30):
        with pytest.raises(InputError, match=r"time\.out_of_range"):
            rfc3339(milliseconds)
    for text in ("1969-12-31T23:59:59.999Z", "9999-12-31T23:59:59-01:00"):
        with pytest.raises(InputError, match=r"time\.out_of_range"):
            parse_rfc3339(text)


@given(st.text(max_size=40))
def test_arbitrary_text_is_a_time_or_a_coded_error(text: str) -> None:
    with pytest.raises(InputError):
        parse_rfc3339(text)


def test_the_system_ports() -> None:
    assert SystemClock().now_ms() > parse_rfc3339("2024-01-01T00:00:00Z")
    tokens = {SystemRandomness().token_bytes(32) for _ in range(3)}
    assert {len(token) for token in tokens} == {32}
    assert len(tokens) == 3


# --- errors -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("family", "name", "status"),
    [
        (InputError, "input", Exit.USAGE),
        (VerificationError, "verification", Exit.NO),
        (DeniedError, "denied", Exit.NO),
        (OperationalError, "operational", Exit.UNDECIDED),
        (KeepstoneError, "operational", Exit.UNDECIDED),
    ],
)
def test_the_family_sets_the_exit_status(
    family: type[KeepstoneError], name: str, status: Exit
) -> None:
    error = family("some.code", "A cause.", "A next step.")
    assert (error.family, error.exit_code) == (name, status)
    assert (error.code, error.cause, error.next_step) == ("some.code", "A cause.", "A next step.")
    assert str(error) == "[some.code] A cause."


@pytest.mark.parametrize("path", ["a/" * 2000 + "a", "a/" * 128 + "b", "a" * 4097])
def test_a_path_that_no_system_takes_is_refused_before_it_costs_anything(path: str) -> None:
    file = FileDigest(path, 1, Digest.of(b"x"))
    with pytest.raises(InputError) as caught:
        artifact_digest([file])
    assert caught.value.code == "path.unsafe"
