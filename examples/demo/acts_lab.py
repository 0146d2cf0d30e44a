"""Models under attack: a policy that asks for a test, and results that do not count."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from act import Act, Outcome, act, ended
from place import Place

LAB: list[Act] = []
_REQUIRE = """
[[require]]
evidence = "robustness"
role = "red-team"
norm = "linf"
eps = 0.5
at_least = 0.5
"""
_SITE = "tested"


def _tested_site(place: Place) -> None:
    """A workspace whose policy asks for a test, and knows who may bring one."""
    place.keepstone("init", workspace=_SITE, check=True)
    policy = place.root / _SITE / "policy.toml"
    policy.write_text(policy.read_text() + _REQUIRE)
    place.keepstone("signers", "create", "--out", place.root / "rita.pem", check=True)
    place.keepstone(
        "signers", "add", "rita", place.root / "rita.pub.pem", "--role", "red-team",
        workspace=_SITE, check=True,
    )  # fmt: skip


def _attack(place: Place, *arguments: object) -> tuple[int, dict[str, Any]]:
    data = ("--data", place.root / "digits" / "held_out.npz")
    done = place.keepstone(
        "attack", place.model, *data, *arguments, "--format", "json", workspace=_SITE
    )
    return done.returncode, json.loads(done.stdout)


@act(LAB, "serve a model that nobody attacked, where policy asks for it", "gate.denied, exit 1")
def untested(place: Place) -> Outcome:
    _tested_site(place)
    done = place.keepstone("up", place.model, "--port", 0, workspace=_SITE)
    return ended(done.returncode, done.stderr, 1, "gate.denied")


@act(LAB, "bring a test that leaves too little of its accuracy", "a fail on record; still denied")
def too_weak(place: Place) -> Outcome:
    status, found = _attack(place, "--norm", "linf", "--eps", 3, "--as", place.root / "rita.pem")
    done = place.keepstone("up", place.model, "--port", 0, workspace=_SITE)
    (row,) = found["robust_accuracy"]
    held = status == 1 and found["verdict"] == "fail" and done.returncode == 1
    shown = f"{row['low']:.2f} to {row['high']:.2f} left at eps 3; {_code(done)}"
    return Outcome(shown, held and "gate.denied" in done.stderr)


@act(LAB, "bring a test of too few samples, or of other labels", "insufficient, invalid: exit 3")
def no_number(place: Place) -> Outcome:
    few, _ = _attack(place, "--samples", 40, "--norm", "linf", "--eps", 0.5)
    held_out = np.load(place.root / "digits" / "held_out.npz")
    np.savez(place.root / "shuffled.npz", x=held_out["x"], y=(held_out["y"] + 1) % 10)
    done = place.keepstone(
        "attack", place.model, "--data", place.root / "shuffled.npz", "--format", "json"
    )
    verdicts = (few, done.returncode, json.loads(done.stdout)["verdict"])
    return Outcome(f"{verdicts}", verdicts == (3, 3, "invalid"))


@act(LAB, "bring the test that policy asks for", "the lower end is enough; it serves")
def tested(place: Place) -> Outcome:
    report = place.root / "report.html"
    status, found = _attack(
        place, "--norm", "linf", "--eps", 0.5, "--report", report, "--as", place.root / "rita.pem"
    )
    (row,) = found["robust_accuracy"]
    with place.serving(place.model, workspace=_SITE) as endpoint:
        served = endpoint.send(place.sample)[0]
    held = status == 0 and served == 200 and report.stat().st_size > 10_000
    return Outcome(f"{row['low']:.2f} or more left, {served}", held)


@act(LAB, "round the scores it tells, so that nobody copies it", "it changes nothing: exit 1")
def rounded(place: Place) -> Outcome:
    data = ("--data", place.root / "digits" / "held_out.npz", "--samples", 100, "--queries", 300)
    done = place.keepstone(
        "harden", "outputs", place.model, *data, "--by", "rounded-scores", "--format", "json"
    )
    found = json.loads(done.stdout)
    copies = found["extraction"]
    held = done.returncode == 1 and found["verdict"] == "fail"
    told = [one["code"] for one in found["problems"]]
    bare, rounded = (copies["best"][side]["agreement"] for side in ("undefended", "defended"))
    shown = f"best copy {rounded['value']:.2f} for {bare['value']:.2f}"
    return Outcome(f"{shown}, exit {done.returncode}", held and told == ["defence.no_gain"])


def _code(done: Any) -> str:
    line = next((line for line in done.stderr.splitlines() if line.startswith("error[")), "")
    return line[6:].partition("]")[0]
