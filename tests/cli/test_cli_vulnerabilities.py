"""From a known vulnerability to a model that is not served, on the real command line."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from keepstone.core.ports import SystemClock, rfc3339
from keepstone.errors import InputError
from keepstone.identity.signing import SigningKey, write_secret_file
from keepstone.workspace.operations import perform
from keepstone.workspace.site import Site
from keepstone.workspace.vulnerabilities import Terms
from tests.scan.osv_server import osv_record, osv_server, osv_zip

Place = Any
Done = Any
REQUIRE = """
[[require]]
evidence = "vulnerabilities"
role = "{role}"
result = "clean"
max_age = "7d"
max_database_age = "7d"
"""
SECURITY = '\n[roles.security]\ngrants = ["state.vulnerabilities"]\n'


@pytest.fixture
def osv(place: Place) -> Path:
    """A database whose newest record is of a minute ago: left-pad below 2.0 is vulnerable."""
    folder: Path = place.root / "osv"
    folder.mkdir()
    modified = rfc3339(SystemClock().now_ms() - 60_000)
    record = osv_record("GHSA-aaaa-bbbb-cccc", aliases=["CVE-2026-1"]) | {"modified": modified}
    (folder / "GHSA-aaaa-bbbb-cccc.json").write_text(json.dumps(record))
    return folder


@pytest.fixture
def locks(place: Place) -> dict[str, Path]:
    made = {}
    for name, version in (("bad", "1.0"), ("good", "2.0")):
        folder = place.root / name
        folder.mkdir()
        made[name] = folder / "requirements.txt"
        made[name].write_text(f"left-pad=={version}\n")
    return made


@pytest.fixture
def asked(place: Place) -> Callable[[str], Place]:
    """A model that was served once, under a policy that now asks for more, of `role`."""

    def ask(role: str) -> Place:
        place.up()
        place.stop()
        policy = place.workspace / "policy.toml"
        more = SECURITY if role == "security" else ""
        policy.write_text(policy.read_text() + more + REQUIRE.format(role=role))
        return place

    return ask


def explained(place: Place) -> bool:
    return bool(
        json.loads(place.run("policy", "explain", "scale", "--format", "json").stdout)["allowed"]
    )


def attest(place: Place, *arguments: object) -> tuple[int, Any]:
    command = ("attest", "vulnerabilities", "scale", *arguments, "--format", "json")
    done = place.run(*command)
    assert done.stdout, done.stderr
    return done.returncode, json.loads(done.stdout)


def keyed(place: Place, name: str) -> tuple[Path, Path]:
    key = SigningKey.generate()
    private, public = place.root / f"{name}.pem", place.root / f"{name}.pub.pem"
    write_secret_file(private, key.to_pem())
    public.write_bytes(key.verifying.pem)
    return private, public


def waive(place: Place, key: Path, *arguments: object) -> Path:
    into: Path = place.root / "waivers.jsonl"
    place.must("waive", "left-pad", "--reason", "not reachable", "--as", key, "--into", into,
               "--advisory", "CVE-2026-1", "--expires", "30d", *arguments)  # fmt: skip
    return into


def test_the_observer_states_what_it_saw(
    asked: Callable[[str], Place], osv: Path, locks: dict[str, Path]
) -> None:
    place = asked("observer")
    assert not explained(place)
    status, said = attest(place, "--scan", locks["bad"], "--osv", osv)
    assert (status, said["outcome"], said["basis"], said["total"]) == (1, "flagged", "scanned", 1)
    assert said["scanner"]["name"] == "keepstone"
    assert not explained(place)
    status, said = attest(place, "--scan", locks["good"], "--osv", osv)
    assert (status, said["outcome"], said["packages"]) == (0, "clean", 1)
    assert said["schema"] == "keepstone.attest-vulnerabilities/v1"
    assert explained(place)
    # While it serves, the owner is asked, and looks for itself: a bad word stops the next renewal.
    place.up()
    status, said = attest(place, "--scan", Path("bad"), "--osv", Path("osv"))
    assert (status, said["outcome"]) == (1, "flagged")
    assert not explained(place)


def test_nothing_to_see_is_not_evaluated(asked: Callable[[str], Place], osv: Path) -> None:
    place = asked("observer")
    (place.root / "empty").mkdir()
    status, said = attest(place, "--scan", place.root / "empty", "--osv", osv)
    assert (status, said["outcome"], said["packages"]) == (3, "not_evaluated", 0)
    assert not explained(place)
    # What the owner is asked to look at means the same in every folder.
    site = Site.at(place.workspace, place.environment)
    asked_for = {"model": "scale", "paths": ["bad"], "osv": str(osv), "max_age_ms": 1}
    with pytest.raises(InputError) as caught:
        perform(site, "vulnerabilities.observe", asked_for | {"terms": Terms().to_dict()})
    assert caught.value.code == "control.malformed"


def test_a_waiver_is_shown_used_and_ends(
    asked: Callable[[str], Place], osv: Path, locks: dict[str, Path]
) -> None:
    place = asked("observer")
    key, public = place.signer("ann", "waiver"), place.root / "ann.pub.pem"
    stranger, _ = keyed(place, "eve")
    file = waive(place, key)
    waive(place, stranger)
    file.write_text(file.read_text() + "not a waiver\n")
    terms = ("--waivers", file, "--waiver-key", public)

    done = place.run("scan", "deps", locks["bad"], "--osv", osv, *terms, "--format", "json")
    assert done.returncode == 0, done.stderr
    document = json.loads(done.stdout)
    (found,) = document["vulnerabilities"]
    assert "not reachable (by the key" in found["waived"]
    assert [one["used"] for one in document["waivers"]["held"]] == [True]
    assert [(one["line"], one["code"]) for one in document["waivers"]["refused"]] == [
        (2, "signature.unknown_key"),
        (3, "json.malformed"),
    ]
    done = place.run("scan", "deps", locks["bad"], "--osv", osv, *terms, "--format", "sarif")
    (result,) = json.loads(done.stdout)["runs"][0]["results"]
    (suppressed,) = result["suppressions"]
    assert suppressed["kind"] == "external"
    assert "not reachable" in suppressed["justification"]
    text = place.run("scan", "deps", locks["bad"], "--osv", osv, *terms).stdout
    assert "waived left-pad 1.0" in text
    assert "until 20" in text
    assert "waives nothing" in text
    # Nobody's key, nobody's waiver.
    done = place.run("scan", "deps", locks["bad"], "--osv", osv, "--waivers", file)
    assert done.returncode == 1
    assert "FLAGGED" in done.stdout

    status, said = attest(place, "--scan", locks["bad"], "--osv", osv, *terms)
    assert (status, said["outcome"], said["waived"]) == (0, "clean", 1)
    assert said["expires"] == said["waivers"][0]["expires"]
    assert explained(place)
    # The waiver is a mistake: revoking it by its digest takes the evidence with it.
    place.signer("carol", "responder")
    digest = said["waivers"][0]["digest"]
    place.must(
        "revoke", digest, "--kind", "statement", "--as", "carol.pem", "--reason", "reachable"
    )
    assert not explained(place)


def test_a_key_made_on_the_spot_waives_nothing_that_the_observer_says(
    asked: Callable[[str], Place], osv: Path, locks: dict[str, Path]
) -> None:
    place = asked("observer")
    place.signer("bob", "approver")
    for name in ("eve", "bob"):
        key = place.root / "bob.pem" if name == "bob" else keyed(place, name)[0]
        file = waive(place, key)
        terms = ("--waivers", file, "--waiver-key", place.root / f"{name}.pub.pem")
        done = place.run("attest", "vulnerabilities", "scale", "--scan", locks["bad"], "--osv", osv,
                         *terms, "--format", "json")  # fmt: skip
        said = json.loads(done.stdout)
        assert (done.returncode, said["outcome"], said["waived"]) == (1, "flagged", 0)
        assert "the right `state.waiver`" in done.stderr
        assert "signature.unknown_key" in done.stderr
        assert not explained(place)


def test_somebody_vouches_for_a_report(
    asked: Callable[[str], Place], osv: Path, locks: dict[str, Path]
) -> None:
    place = asked("security")
    key = place.signer("sam", "security")
    reports = {}
    for name, path in locks.items():
        done = place.run("scan", "deps", path, "--osv", osv, "--format", "json")
        reports[name] = place.root / f"{name}.json"
        reports[name].write_text(done.stdout)
    status, said = attest(place, "--report", reports["bad"], "--as", key)
    assert (status, said["outcome"], said["basis"]) == (1, "flagged", "reported")
    # The observer's own look is not what this policy asks for.
    attest(place, "--scan", locks["good"], "--osv", osv)
    assert not explained(place)
    status, said = attest(place, "--report", reports["good"], "--as", key)
    assert (status, said["outcome"]) == (0, "clean")
    assert explained(place)
    # Who has no such role is refused, and nothing is recorded.
    other, _ = keyed(place, "eve")
    done = place.run(
        "attest", "vulnerabilities", "scale", "--report", reports["good"], "--as", other
    )
    assert done.returncode == 1
    assert "signature.unknown_key" in done.stderr


CANNOT: list[tuple[tuple[str, ...], str]] = [
    ((), ""),
    (("--report", "junk.json"), ""),
    (("--scan", "bad"), ""),
    (("--scan", "bad", "--osv", "osv", "--as", "k.pem"), ""),
    (("--report", "none.json", "--as", "k.pem"), "file.unreadable"),
    (("--report", "junk.json", "--as", "k.pem"), "json.malformed"),
    (("--report", "list.json", "--as", "k.pem"), "report.unknown"),
    (("--scan", "bad", "--osv", "none"), "osv.missing"),
]


def test_what_cannot_be_stated(
    place: Place, locks: dict[str, Path], osv: Path, error_code: Callable[[Done], str]
) -> None:
    place.up()
    place.stop()
    keyed(place, "k")
    (place.root / "junk.json").write_text("{")
    (place.root / "list.json").write_text("{}")
    before = place.must("ledger", "tail").stdout
    for arguments, code in CANNOT:
        done = place.run("attest", "vulnerabilities", "scale", *arguments)
        assert (done.returncode, error_code(done)) == (2, code)
    assert place.must("ledger", "tail").stdout == before


def test_a_model_that_nobody_knows(place: Place, error_code: Callable[[Done], str]) -> None:
    place.must("init")
    keyed(place, "k")
    (place.root / "r.json").write_text("{}")
    done = place.run("attest", "vulnerabilities", "x", "--report", "r.json", "--as", "k.pem")
    assert (done.returncode, error_code(done)) == (2, "model.unknown")


# vulndb


@pytest.fixture
def server() -> Iterator[Any]:
    with osv_server() as running:
        yield running


@pytest.mark.loopback
def test_a_database_is_fetched_shown_verified_and_judged_by(
    place: Place, server: Any, locks: dict[str, Path], error_code: Callable[[Done], str]
) -> None:
    modified = rfc3339(SystemClock().now_ms() - 60_000)
    record = osv_record("GHSA-aaaa-bbbb-cccc") | {"modified": modified}
    server.put("PyPI", osv_zip(record))
    update = ("vulndb", "update", "--into", "db", "--from", server.url)
    assert error_code(place.run(*update)) == "vulndb.nothing_named"
    done = place.must(*update, "--ecosystem", "PyPI")
    assert "PyPI: 1 records" in done.stderr
    shown = place.json("vulndb", "show", "db")
    assert (shown["schema"], shown["records"]) == ("keepstone.vulndb/v1", 1)
    assert shown["age_s"] < 300
    assert "1970" not in place.must("vulndb", "show", "db").stdout
    place.must("vulndb", "verify", "db")
    done = place.run("scan", "deps", locks["bad"], "--osv", "db", "--format", "json")
    assert done.returncode == 1
    assert json.loads(done.stdout)["database"]["digest"] == shown["digest"]
    (place.root / "db" / "PyPI" / "all.zip").write_bytes(b"")
    assert error_code(place.run("vulndb", "verify", "db")) == "vulndb.changed"
    assert place.run("scan", "deps", locks["good"], "--osv", "db").returncode == 3
    assert place.run("vulndb", "show", "nowhere").returncode == 2
    done = place.run(*update[:-1], "http://192.0.2.1", "--ecosystem", "PyPI")
    assert (done.returncode, error_code(done)) == (1, "vulndb.insecure_url")


def test_without_the_extra_it_says_which(place: Place, error_code: Callable[[Done], str]) -> None:
    (place.root / "httpx.py").write_text("raise ImportError('not here')\n")
    done = place.run(
        "vulndb", "update", "--into", "db", "--ecosystem", "PyPI", PYTHONPATH=str(place.root)
    )
    assert (done.returncode, error_code(done)) == (3, "extra.http")
    assert "keepstone[http]" in done.stderr
    assert not (place.root / "db").exists()
