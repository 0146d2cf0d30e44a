"""`keepstone bom` as people run it."""

from __future__ import annotations

import json
from typing import Any

from keepstone.identity.signing import SigningKey, write_secret_file


def test_a_bill_is_written_signed_and_checked(place: Any) -> None:
    place.must("init")
    place.up(model=place.model)
    place.stop()
    key = place.signer("acme", "publisher")

    printed = json.loads(place.must("bom", "scale").stdout)
    assert printed["bomFormat"] == "CycloneDX"
    place.must("bom", "scale", "--output", "bom.json", "--as", key)
    assert "payloadType" in json.loads((place.root / "bom.json.intoto.json").read_bytes())

    checked = place.json("bom", "scale", "--check", "bom.json")
    assert (checked["matches"], checked["differences"]) == (True, [])
    assert [one["by"] for one in checked["signed"]] == ["acme"]

    (place.root / "requirements.txt").write_text("numpy==2.4.0\nbroken @@\n")
    listed = ("--packages", "requirements.txt")
    place.must("bom", "scale", *listed, "--output", "more.json")
    document = json.loads((place.root / "more.json").read_bytes())
    assert [one["purl"] for one in document["components"]] == ["pkg:pypi/numpy@2.4.0"]
    said = {one["name"] for one in document["metadata"]["component"]["properties"]}
    assert "keepstone:packages.unread" in said
    place.must("bom", "scale", *listed, "--check", "more.json")
    # What was not compared is not called equal.
    assert place.run("bom", "scale", "--check", "more.json").returncode == 3

    revoker = place.signer("rita", "responder")
    place.must("revoke", "scale", "--as", revoker, "--reason", "poisoned")
    done = place.run("bom", "scale", "--check", "bom.json")
    assert done.returncode == 1
    assert "keepstone:verdict].value: 'admitted', now 'denied'" in done.stdout


def test_options_that_contradict_each_other_are_usage(place: Any, error_code: Any) -> None:
    place.must("init")
    for arguments in (
        ("bom", "scale", "--check", "x", "--output", "y"),
        ("bom", "scale", "--as", "key.pem"),
        ("bom",),
    ):
        assert place.run(*arguments).returncode == 2
    done = place.run("bom", "scale")
    assert (done.returncode, error_code(done)) == (2, "model.unknown")


def test_a_document_that_cannot_be_signed_is_not_left_unsigned(place: Any, error_code: Any) -> None:
    place.must("init")
    place.up(model=place.model)
    place.stop()
    write_secret_file(place.root / "stranger.pem", SigningKey.generate().to_pem())
    done = place.run("bom", "scale", "--output", "bom.json", "--as", "stranger.pem")
    assert (done.returncode, error_code(done)) == (1, "signature.unknown_key")
    assert "urn:uuid" not in done.stderr
    assert not list(place.root.glob("bom.json*"))
