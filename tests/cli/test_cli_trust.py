"""Trust bundles as people use them: exported here, believed there, and refused with a status."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from keepstone.workspace.admit import Submission, submit
from keepstone.workspace.layout import Layout
from keepstone.workspace.opened import open_workspace
from keepstone.workspace.site import Site


class Silent:
    def begin(self, step: str) -> None: ...

    def copied(self, done: int, expected: int) -> None: ...

    def end(self, detail: str) -> None: ...

    def warn(self, message: str) -> None: ...


@pytest.fixture
def made(place: Any) -> Any:
    """A workspace in which `scale.onnx` was admitted."""
    place.must("init")
    site = Site(Layout(place.workspace), place.root / "outside")
    with open_workspace(site) as workspace:
        submit(workspace, Submission.of(place.model), Silent())
    return place


def there(place: Any, *arguments: object) -> Any:
    """A command on the other machine: no workspace, and a memory of its own."""
    return place.run(
        *arguments,
        KEEPSTONE_WORKSPACE=str(place.root / "none"),
        KEEPSTONE_OUTSIDE=str(place.root / "there"),
    )


def test_export_verify_show_and_revoke(made: Any, error_code: Callable[..., str]) -> None:
    bundle = made.root / "scale.trust"
    key = made.must("trust", "export", "--out", bundle, "--expires", "1h").stdout.strip()
    assert made.json("signers", "list")["signers"][-1]["key_id"] == key
    verify = ("verify", made.model, "--trust", bundle)

    # Nobody has said whom to believe yet.
    for style in ("text", "json"):
        refused = there(made, *verify, "--format", style)
        assert (refused.returncode, refused.stdout) == (2, "")
        assert error_code(refused) == "trust.no_key"
        shown = there(made, "trust", "show", bundle, "--format", style)
        assert shown.returncode == 3
    assert json.loads(shown.stdout)["verified"] is False
    assert not (made.root / "there").exists()

    assert there(made, *verify, "--trust-key", key).returncode == 0
    answer = there(made, *verify, "--format", "json")
    assert answer.returncode == 0
    document = json.loads(answer.stdout)
    assert (document["schema"], document["allowed"]) == ("keepstone.verify-trust/v1", True)
    assert document["trust"]["key_id"] == key
    shown = there(made, "trust", "show", bundle, "--format", "json")
    document = json.loads(shown.stdout)
    assert (shown.returncode, document["verified"], document["revocations"]) == (0, True, [])
    rights = {one["name"]: one["rights"] for one in document["signers"]}
    assert rights["gate"] == ["state.admission"]

    carol = made.signer("carol", "responder")
    made.must("revoke", "scale", "--as", carol, "--reason", "poisoned")
    newer = made.root / "newer.trust"
    made.must("trust", "export", "--out", newer, "--model", "scale")
    for style in ("text", "json"):
        no = there(made, "verify", made.model, "--trust", newer, "--format", style)
        assert no.returncode == 1
    assert json.loads(no.stdout)["rules"] == ["guard.revoked"]
    assert "poisoned" in there(made, "trust", "show", newer).stdout
    assert error_code(there(made, *verify)) == "trust.rolled_back"


def test_the_key_may_be_given_as_a_file_and_must_be_the_right_one(
    made: Any, error_code: Callable[..., str]
) -> None:
    bundle = made.root / "scale.trust"
    made.must("trust", "export", "--out", bundle)
    verify = ("verify", made.model, "--trust", bundle, "--trust-key")
    keys = made.workspace / "keys"
    wrong = there(made, *verify, keys / "observer.pub.pem")
    assert (wrong.returncode, error_code(wrong)) == (1, "trust.wrong_key")
    assert there(made, *verify, keys / "gate.pub.pem").returncode == 0
    changed = there(made, *verify, "0" * 64)
    assert (changed.returncode, error_code(changed)) == (1, "trust.key_changed")
    assert error_code(there(made, *verify, made.root / "none.pem")) == "key.missing"


def test_a_changed_model_and_another_name_are_a_no(
    made: Any, error_code: Callable[..., str]
) -> None:
    bundle = made.root / "scale.trust"
    key = made.must("trust", "export", "--out", bundle).stdout.strip()
    verify = ("verify", made.model, "--trust", bundle, "--trust-key", key)
    assert there(made, *verify, "--name", "other").returncode == 1
    made.model.write_bytes(made.model.read_bytes() + b"\0")
    changed = there(made, *verify)
    assert (changed.returncode, error_code(changed)) == (2, "trust.no_name")
    assert there(made, *verify, "--name", "scale").returncode == 1


@pytest.mark.parametrize(
    "arguments",
    [
        (),
        ("--public-key", "k"),
        ("--signature", "s"),
        ("--trust", "b", "--public-key", "k"),
        ("--trust", "b", "--signature", "s"),
        ("--public-key", "k", "--signature", "s", "--name", "n"),
        ("--public-key", "k", "--signature", "s", "--trust-key", "0" * 64),
        ("--trust", "b", "--incremental"),
    ],
)
def test_options_that_contradict_each_other_are_a_usage_error(
    place: Any, arguments: tuple[str, ...]
) -> None:
    done = place.run("verify", place.model, *arguments)
    assert (done.returncode, done.stdout) == (2, "")


def test_a_bundle_that_is_none(place: Any, error_code: Callable[..., str]) -> None:
    bundle = Path(place.root / "b")
    bundle.write_bytes(b"{}")
    assert error_code(place.run("trust", "show", bundle)) == "envelope.malformed"
    assert error_code(place.run("trust", "show", place.root / "no")) == "trust.missing"
