"""A registry served to several people: what each sees, moves and takes, and what none can."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from act import Act, Outcome, act, ended
from place import Endpoint, Place

REGISTRY: list[Act] = []
SITE = "registry"
PEOPLE = {
    "maker": ("--role", "pusher", "--role", "releaser"),
    "second": ("--role", "releaser"),
    "reader": ("--role", "puller", "--model", "digits"),
    "analyst": ("--role", "puller", "--where", "team=growth"),
}


class Shop:
    """A registry with two teams' models, its server, and a key for each of PEOPLE."""

    running: Endpoint

    @classmethod
    @contextmanager
    def open(cls, place: Place) -> Iterator[None]:
        place.keepstone("init", workspace=SITE, check=True)
        policy = place.root / SITE / "policy.toml"
        text = policy.read_text()
        text = text.replace("# team = []", 'team = ["risk", "growth"]')
        text = text.replace(
            "production = { four_eyes = false }", "production = { four_eyes = true }"
        )
        policy.write_text(text)
        cls.running = place.start("registry", "serve", workspace=SITE)
        try:
            for name, grants in PEOPLE.items():
                made = place.keepstone(
                    "keys", "create", f"user:{name}", *grants, "--format", "json",
                    workspace=SITE, check=True,
                )  # fmt: skip
                key = place.root / f"{name}.key"
                key.touch(0o600)
                key.write_text(json.loads(made.stdout)["key"])
            for name, team in (("digits", "risk"), ("letters", "growth")):
                cls.ask(
                    place, "maker", "push", place.model, "--name", name,
                    "--attribute", f"team={team}",
                )  # fmt: skip
            yield
        finally:
            cls.running.stop()

    @classmethod
    def ask(cls, place: Place, who: str, *command: object) -> Any:
        """Run a command of `who` against the server."""
        ready = cls.running.ready
        return place.keepstone(
            *command,
            workspace="nowhere",
            environment={
                "KEEPSTONE_REGISTRY": str(ready["url"]),
                "KEEPSTONE_CA": str(ready["ca"]),
                "KEEPSTONE_KEY_FILE": str(place.root / f"{who}.key"),
            },
        )

    @classmethod
    def pull(cls, place: Place, who: str, version: str, out: str) -> Any:
        gate = cls.running.ready["gate_key"]
        return cls.ask(place, who, "pull", version, "--out", out, "--trust-key", gate)


def _same(place: Place, out: str) -> bool:
    return (place.root / out).read_bytes() == place.model.read_bytes()


@act(REGISTRY, "two people with other grants list and pull", "each sees and gets one model")
def two_views(place: Place) -> Outcome:
    seen = []
    for who in ("reader", "analyst"):
        listed = Shop.ask(place, who, "list", "--format", "json")
        seen.append([one["model"] for one in json.loads(listed.stdout)["versions"]])
    mine = Shop.pull(place, "reader", "digits@1", "mine.onnx")
    theirs = Shop.pull(place, "reader", "letters@1", "theirs.onnx")
    nothing = Shop.pull(place, "reader", "nothing@1", "theirs.onnx")
    alike = theirs.stderr.replace("letters", "X") == nothing.stderr.replace("nothing", "X")
    held = seen == [["digits"], ["letters"]] and mine.returncode == 0 and _same(place, "mine.onnx")
    held = held and alike and not (place.root / "theirs.onnx").exists()
    return Outcome(f"{seen}; another's reads as one that is not there: {alike}", held)


@act(REGISTRY, "promoting alone what one pushed", "proposed, and no further by the same person")
def alone(place: Place) -> Outcome:
    first = Shop.ask(place, "maker", "promote", "digits@1", "--to", "production")
    again = Shop.ask(place, "maker", "promote", "digits@1", "--to", "production")
    held = first.stdout.strip() == "proposed"
    told = ended(again.returncode, again.stderr, 1, "registry.own_proposal")
    return Outcome(f"{first.stdout.strip()}; {told.observed}", held and told.held)


@act(REGISTRY, "a second person confirms, and the stage is pulled", "moved; the very bytes")
def second(place: Place) -> Outcome:
    moved = Shop.ask(place, "second", "promote", "digits@1", "--to", "production")
    pulled = Shop.pull(place, "reader", "digits@production", "staged.onnx")
    held = moved.stdout.strip() == "moved" and pulled.returncode == 0
    return Outcome(
        f"{moved.stdout.strip()}; exit {pulled.returncode}", held and _same(place, "staged.onnx")
    )


@act(REGISTRY, "a push that the scan flags", "exit 1 registry.flagged, and no version of it")
def flagged(place: Place) -> Outcome:
    evil = place.root / "evil.pkl"
    evil.write_bytes(b"cos\nsystem\n(S'true'\ntR.")
    pushed = Shop.ask(place, "maker", "push", evil, "--name", "digits", "--attribute", "team=risk")
    listed = json.loads(Shop.ask(place, "maker", "list", "digits", "--format", "json").stdout)
    told = ended(pushed.returncode, pushed.stderr, 1, "registry.flagged")
    return Outcome(told.observed, told.held and len(listed["versions"]) == 1)


@act(REGISTRY, "pulling without the gate's key, and with another's", "refused; nothing arrives")
def unpinned(place: Place) -> Outcome:
    without = Shop.ask(place, "reader", "pull", "digits@1", "--out", "no.onnx")
    other = Shop.ask(
        place, "reader", "pull", "digits@1", "--out", "no.onnx", "--trust-key", "0" * 64
    )
    first = ended(without.returncode, without.stderr, 2, "registry.no_gate_key")
    then = ended(other.returncode, other.stderr, 1, "registry.wrong_gate")
    held = first.held and then.held and not (place.root / "no.onnx").exists()
    return Outcome(f"{first.observed}; {then.observed}", held)


@act(REGISTRY, "a blob changed in the registry's store", "the pull ends early; nothing arrives")
def changed(place: Place) -> Outcome:
    blob = next(path for path in _blobs(place) if path.name.startswith("letters"))
    before = blob.read_bytes()
    data = bytearray(before)
    data[-100] ^= 1
    blob.write_bytes(data)
    pulled = Shop.pull(place, "analyst", "letters@1", "changed.onnx")
    blob.write_bytes(before)
    left = list(place.root.glob("*changed.onnx*"))
    return Outcome(
        f"exit {pulled.returncode}, {len(left)} files left", pulled.returncode != 0 and not left
    )


@act(REGISTRY, "a revocation of the promoted version", "exit 1 gate.revoked for everybody, at once")
def revoked(place: Place) -> Outcome:
    place.keepstone(
        "signers", "create", "--out", place.root / "responder.pem", workspace=SITE, check=True
    )
    place.keepstone(
        "signers", "add", "ben", place.root / "responder.pub.pem", "--role", "responder",
        workspace=SITE, check=True,
    )  # fmt: skip
    done = Shop.ask(
        place, "reader", "revoke", "digits@production", "--as", place.root / "responder.pem",
        "--reason", "poisoned",
    )  # fmt: skip
    pulled = Shop.pull(place, "reader", "digits@production", "revoked.onnx")
    told = ended(pulled.returncode, pulled.stderr, 1, "gate.revoked")
    return Outcome(told.observed, done.returncode == 0 and told.held)


@act(REGISTRY, "the ledger, afterwards", "every pull and attempt is there, by whom")
def recorded(place: Place) -> Outcome:
    tail = place.keepstone("ledger", "tail", "--count", 500, "--format", "json", workspace=SITE)
    seen = {
        (one["principal"], one["action"], one["outcome"])
        for one in json.loads(tail.stdout)["entries"]
        if one["kind"] == "access"
    }
    wanted = {
        ("user:reader", "pull", "allowed"),
        ("user:reader", "pull", "registry.not_found"),
        ("user:reader", "pull", "gate.revoked"),
        ("user:maker", "promote", "registry.own_proposal"),
        ("user:maker", "push", "registry.flagged"),
    }
    return Outcome(f"{len(seen)} kinds of attempts", wanted <= seen)


def _blobs(place: Place) -> list[Path]:
    return sorted((place.root / SITE / "vault").rglob("*.sealed"))
