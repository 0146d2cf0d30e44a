"""The registry as people use it: push, promote with four eyes, pull, and what each refuses."""

from __future__ import annotations

import json
import os
import pwd
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import make_model

ME = f"local:{pwd.getpwuid(os.geteuid()).pw_name}"


@pytest.fixture
def shop(place: Any) -> Any:
    """A workspace whose `production` takes four eyes, and a second model."""
    place.must("init")
    policy = place.workspace / "policy.toml"
    text = policy.read_text()
    old = "production = { four_eyes = false }"
    assert old in text
    policy.write_text(text.replace(old, "production = { four_eyes = true }"))
    make_model(place.root / "other.onnx", scale=3.0)
    return place


def _key(shop: Any, who: str, role: str, *more: str) -> Path:
    made = shop.json("keys", "create", who, "--role", role, *more)
    path: Path = shop.root / f"{who.split(':')[1]}.key"
    path.write_text(made["key"] + "\n")
    path.chmod(0o600)
    return path


def test_the_life_of_a_version(shop: Any, error_code: Callable[..., str]) -> None:
    assert shop.must("push", "scale.onnx", "--name", "scale").stdout.strip() == "scale@1"
    pushed = shop.json("push", "other.onnx", "--name", "scale", "--note", "a better one")
    assert (pushed["number"], pushed["known"]) == (2, False)
    assert shop.json("push", "other.onnx", "--name", "scale")["known"]
    listed = shop.json("list")["versions"]
    assert [one["number"] for one in listed] == [1, 2]
    assert listed[0]["pushed"]["by"] == ME
    shop.must("alias", "scale", "best", "1")
    assert "best" in shop.must("list", "scale").stdout
    # Two people.
    assert shop.must("promote", "scale@2", "--to", "production").stdout.strip() == "proposed"
    again = shop.run("promote", "scale@2", "--to", "production")
    assert (again.returncode, error_code(again)) == (1, "registry.own_proposal")
    bob = _key(shop, "user:bob", "releaser")
    done = shop.must("promote", "scale@2", "--to", "production", "--key-file", bob)
    assert done.stdout.strip() == "moved"
    shown = shop.must("show", "scale@production").stdout
    assert "the gate admits it at production" in shown
    assert "a better one" in shown
    differing = shop.run("diff", "scale@1", "scale@2")
    assert differing.returncode == 1
    assert "! ." in differing.stdout
    assert shop.run("diff", "scale@1", "scale@best").returncode == 0
    # Out, and verified on another machine.
    pulled = shop.json("pull", "scale@production", "--out", "out.onnx")
    assert (shop.root / "out.onnx").read_bytes() == (shop.root / "other.onnx").read_bytes()
    there = shop.run(
        *("verify", "out.onnx", "--trust", "out.onnx.trust", "--trust-key", pulled["gate_key"]),
        KEEPSTONE_WORKSPACE=str(shop.root / "none"),
        KEEPSTONE_OUTSIDE=str(shop.root / "there"),
    )
    assert there.returncode == 0, there.stderr
    over = shop.run("pull", "scale@production", "--out", "out.onnx")
    assert (over.returncode, error_code(over)) == (2, "target.exists")


def test_deprecate_and_collect(shop: Any, error_code: Callable[..., str]) -> None:
    for model in ("scale.onnx", "other.onnx"):
        shop.must("push", model, "--name", "scale")
    shop.must("deprecate", "scale@1", "--reason", "superseded", "--for", "1s")
    warned = shop.must("pull", "scale@1", "--no-trust")
    assert "deprecated: superseded" in warned.stderr
    assert not (shop.root / "scale.trust").exists()
    refused = shop.run("alias", "scale", "best", "1")
    assert (refused.returncode, error_code(refused)) == (1, "registry.deprecated")
    assert shop.json("registry", "collect", "--keep", "1", "--dry-run")["versions"]
    assert [one["number"] for one in shop.json("list")["versions"] if one["collected"]] == []
    assert "scale@1" in shop.must("registry", "collect", "--keep", "1").stdout
    assert "collected" in shop.must("list").stdout
    gone = shop.run("pull", "scale@1", "--out", "x")
    assert (gone.returncode, error_code(gone)) == (2, "registry.collected")


def test_a_key_sees_what_it_is_granted_and_no_more(
    shop: Any, error_code: Callable[..., str]
) -> None:
    shop.must("push", "scale.onnx", "--name", "mine")
    shop.must("push", "other.onnx", "--name", "theirs")
    key = _key(shop, "user:eve", "puller", "--model", "mine")
    assert [one["model"] for one in shop.json("list", "--key-file", key)["versions"]] == ["mine"]
    hidden = shop.run("pull", "theirs@1", "--key-file", key)
    absent = shop.run("pull", "thairs@1", "--key-file", key)
    assert hidden.returncode == absent.returncode == 2
    assert hidden.stderr == absent.stderr.replace("thairs", "theirs")
    assert error_code(hidden) == "registry.not_found"
    shop.must("pull", "mine@1", "--key-file", key, "--out", "m")
    # A key that others may read, or that is none, opens nothing.
    key.chmod(0o644)
    assert error_code(shop.run("list", "--key-file", key)) == "key.open_permissions"
    key.write_text("ks_nothing")
    key.chmod(0o600)
    assert error_code(shop.run("list", "--key-file", key)) == "auth.malformed"


def test_what_is_flagged_or_named_badly_is_refused_with_a_status(
    shop: Any, error_code: Callable[..., str]
) -> None:
    (shop.root / "bad.pkl").write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    bad = shop.run("push", "bad.pkl", "--name", "bad")
    assert (bad.returncode, error_code(bad)) == (1, "registry.flagged")
    for arguments, status in (
        (("pull", "../etc/passwd"), 2),
        (("pull", "scale"), 2),
        (("push", "scale.onnx", "--name", "../x"), 2),
        (("push", "scale.onnx", "--attribute", "team"), 2),
        (("alias", "scale", "best"), 2),
        (("push", "nothing.onnx"), 2),
    ):
        assert shop.run(*arguments).returncode == status


def test_the_owner_takes_who_asks_from_the_kernel_and_not_from_the_request(shop: Any) -> None:
    """This fails if a request may say which user it comes from."""
    from keepstone.workspace.control import ControlServer, ask
    from keepstone.workspace.layout import Layout
    from keepstone.workspace.opened import open_workspace
    from keepstone.workspace.operations import execute
    from keepstone.workspace.site import Site

    site = Site(Layout(shop.workspace), shop.root / "outside")
    with open_workspace(site) as workspace:
        server = ControlServer(site.layout, lambda *asked: execute(workspace, *asked))
        try:
            # A command beside the owner, and one that claims to be somebody else.
            assert shop.must("push", "scale.onnx", "--name", "scale").stdout.strip() == "scale@1"
            claims = {"principal": "local:daemon", "uid": 1, "who": "local:daemon"}
            ask(site.layout, "registry.show", {"version": "scale@1", **claims})
            shop.must("pull", "scale@1", "--out", "out.onnx")
        finally:
            server.close()
        body = [workspace.ledger.body(index) for index in range(workspace.ledger.durable_size)]
    said = [json.loads(one) for one in body]
    accesses = [one for one in said if one["kind"] == "access"]
    assert [one["principal"] for one in accesses] == [ME, ME]
    assert [one["by"]["principal"] for one in said if one["kind"] == "registry"] == [ME]
    assert (shop.root / "out.onnx").exists()


def test_another_user_is_another_principal(shop: Any) -> None:
    from keepstone.workspace.registry.callers import local_principal

    assert local_principal(os.geteuid()).id == ME
    nobody = local_principal(4_000_000)
    assert (nobody.id, nobody.key_id) == ("local:uid-4000000", "uid-4000000")
    assert nobody.is_local


@pytest.mark.loopback
def test_an_endpoint_serves_a_stage(shop: Any, error_code: Callable[..., str]) -> None:
    shop.must("push", "scale.onnx", "--name", "scale")
    shop.must("promote", "scale@1", "--to", "staging")
    ready = shop.up("--unsafe-plain-http", "a test", model="scale@staging")
    assert ready["model"] == "scale"
    # Beside the running owner everything is asked of it.
    shop.must("alias", "scale", "best", "1")
    assert shop.json("show", "scale@best")["number"] == 1
    kept = shop.json("registry", "collect", "--keep", "1")
    assert kept["versions"] == []
    assert shop.stop() == 0
    named = shop.run("up", "scale@staging", "--name", "other")
    assert named.returncode == 2
    absent = shop.run("up", "scale@production")
    assert (absent.returncode, error_code(absent)) == (2, "registry.not_found")
