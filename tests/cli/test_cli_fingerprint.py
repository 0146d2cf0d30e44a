"""`keepstone fingerprint` as people run it, against a real endpoint too."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.nets import save


@pytest.mark.loopback
def test_from_making_one_to_an_auditors_verification(place: Any, error_code: Any) -> None:
    place.must("init")
    owned = save(place.root / "owned.onnx", 1)
    served = place.up("--name", "net", model=owned)
    name = place.must("fingerprint", "create", "net", "--count", "60").stdout.strip()
    assert name.startswith("fp-")
    (listed,) = place.json("fingerprint", "list")["fingerprints"]
    assert (listed["id"], listed["model"], listed["null"]) == (name, "net", "assumed")

    # The endpoint that serves it is a suspect like any other.
    (place.root / "key").write_text(served["api_key"])
    asked = ("--endpoint", served["url"], "--model", "net", "--ca", served["ca"])
    # A key that may predict and not read what the model takes: its names are given.
    done = place.run("fingerprint", "check", name, *asked, "--key-file", "key")
    assert (done.returncode, error_code(done)) == (3, "target.refused")
    named = ("--suspect-input", "x", "--suspect-output", "label", "--key-file", "key")
    done = place.run("fingerprint", "check", name, *asked, *named, "--format", "json")
    assert done.returncode == 1, done.stderr
    found = json.loads(done.stdout)
    assert (found["outcome"], found["matches"], found["answered"]) == ("match", 60, 60)
    assert served["api_key"] not in done.stdout + done.stderr
    done = place.run("fingerprint", "check", name, *asked)
    assert (done.returncode, error_code(done)) == (3, "target.refused")
    place.stop()

    apart = save(place.root / "apart.onnx", 2)
    done = place.run("fingerprint", "check", name, apart)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("no match: ")

    # What leaves every other suspect insufficient is said before anybody relies on it.
    few = ("--count", "20")
    for told in (
        place.must("fingerprint", "create", "net", *few),
        place.must("fingerprint", "open", name, "--out", "part.json", *few),
    ):
        assert "20 crossings find a copy with the chance 0.91" in told.stderr
    told = place.must("fingerprint", "open", name, "--out", "opened.json")
    assert "crossings find a copy" not in told.stderr
    vkey = place.json("ledger", "checkpoint")["vkey"]
    place.must("fingerprint", "verify", "opened.json", "--vkey", vkey)
    done = place.run("fingerprint", "verify", "opened.json", "--vkey", vkey, owned)
    assert (done.returncode, "60 of 60 crossings match" in done.stdout) == (1, True)


def test_whom_to_ask_is_said_once(place: Any, error_code: Any) -> None:
    place.must("init")
    for arguments in (
        ("check", "fp-0"),
        ("check", "fp-0", "file", "--endpoint", "https://x", "--model", "m"),
        ("check", "fp-0", "--endpoint", "https://x"),
        ("check", "fp-0", "file", "--model", "m"),
    ):
        assert place.run("fingerprint", *arguments).returncode == 2
    done = place.run("fingerprint", "check", "fp-0", "file")
    assert (done.returncode, error_code(done)) == (2, "fingerprint.unknown")
    assert place.json("fingerprint", "list")["fingerprints"] == []
