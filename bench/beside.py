"""One attack of ours beside one of a peer, on the same samples; and the table of many.

A bench of attacks keeps what it compared in build/lab/BENCH.json, so that `lab_attacks` can print
one table over all of them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from math import isfinite
from pathlib import Path
from typing import Any

from bench.environment import ROOT
from keepstone.lab.metrics.wilson import share

KEPT = ROOT / "build" / "lab"
FAMILIES = ("white box", "black box", "distortion")


@dataclass(frozen=True, slots=True)
class Side:
    """What one of the two found: `value` is the share of samples that stand, or a median
    distance; `queries` are a sample's on average, None where nobody counted them."""

    attack: str
    value: float
    queries: float | None
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Beside:
    """`ours` and `peer` on `n` samples of `subject`.

    `missed` is how many samples the peer broke and ours did not, `found` the other way round; None
    where they were not looked at one by one. `least` is what no attack can be below, where that is
    known. `strict` asks for less than the peer's value, else as little does; `queries` and `cpu`
    are the most that ours may take of the peer's. `failed` is why the peer has no number.
    """

    family: str
    subject: str
    n: int
    ours: Side
    peer: Side
    unit: str = "robust"
    missed: int | None = None
    found: int | None = None
    least: float = 0.0
    strict: bool = False
    queries: float | None = None
    cpu: float = 1.0
    failed: str = ""

    @classmethod
    def of_failed(cls, family: str, subject: str, attack: str, why: str) -> Beside:
        none = Side("", 0.0, None, 0.0)
        return cls(family, subject, 0, none, replace(none, attack=attack), failed=why)

    @property
    def lower(self) -> bool:
        """Whether ours found enough: less where that is asked for, unless nothing less is there."""
        ours, theirs = self.ours.value, self.peer.value
        floor = ours <= self.least + 1e-9
        return ours < theirs - 1e-9 or ((floor or not self.strict) and ours <= theirs + 1e-9)

    @property
    def queries_ratio(self) -> float | None:
        if not self.ours.queries or not self.peer.queries:
            return None
        return self.ours.queries / self.peer.queries

    @property
    def cpu_ratio(self) -> float:
        return self.ours.cpu_s / max(self.peer.cpu_s, 1e-9)

    @property
    def lacks(self) -> tuple[str, ...]:
        """What of the reach is missed, in words; empty where all of it is met."""
        if self.failed:
            return ()
        missed = [] if self.lower else ["not lower" if self.strict else "higher"]
        ratio = self.queries_ratio
        if self.queries is not None and ratio is not None and ratio > self.queries + 1e-9:
            missed.append(f"queries {ratio:.2f} x")
        if self.cpu_ratio > self.cpu:
            missed.append(f"CPU {self.cpu_ratio:.2f} x")
        return tuple(missed)

    @property
    def verdict(self) -> str:
        return "did not run" if self.failed else ", ".join(self.lacks) or "met"


_HEAD = (
    "model",
    "peer's attack",
    "n",
    "peer's",
    "95 %",
    "ours",
    "95 %",
    "ours is",
    "queries",
    "ours",
    "ratio",
    "CPU s",
    "ours",
    "ratio",
    "verdict",
)


def table(found: Sequence[Beside]) -> str:
    """In columns for people, a family after the other."""
    parts = []
    for family in FAMILIES:
        mine = [one for one in found if one.family == family]
        if not mine:
            continue
        ran = [one for one in mine if not one.failed]
        met = sum(not one.lacks for one in ran)
        parts.append(
            f"{family}: {met} of {len(ran)} met, {len(mine) - len(ran)} did not run\n"
            + _columns([_HEAD, *map(_line, mine)])
        )
    return "\n\n".join(parts)


def _line(one: Beside) -> tuple[str, ...]:
    if one.failed:
        return (one.subject, one.peer.attack, *("-",) * 12, f"did not run: {one.failed[:90]}")
    ratio = one.queries_ratio
    return (
        one.subject,
        one.peer.attack,
        str(one.n),
        f"{one.peer.value:.3f}",
        _interval(one, one.peer.value),
        f"{one.ours.value:.3f}",
        _interval(one, one.ours.value),
        one.ours.attack,
        "-" if one.peer.queries is None else f"{one.peer.queries:.0f}",
        "-" if one.ours.queries is None else f"{one.ours.queries:.0f}",
        "-" if ratio is None else f"{ratio:.3f}",
        f"{one.peer.cpu_s:.2f}",
        f"{one.ours.cpu_s:.2f}",
        f"{one.cpu_ratio:.3f}" if isfinite(one.cpu) else "-",
        one.verdict + ("" if one.missed is None else f" ({one.found} more, {one.missed} missed)"),
    )


def _interval(one: Beside, value: float) -> str:
    if one.unit != "robust":
        return "median"
    found = share(round(value * one.n), one.n)
    return f"{found.low:.2f}-{found.high:.2f}"


def _columns(lines: Sequence[tuple[str, ...]]) -> str:
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def keep(bench: str, found: Sequence[Beside], folder: Path = KEPT) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    content = {"at": time.strftime("%Y-%m-%d %H:%M"), "found": [asdict(one) for one in found]}
    (folder / f"{bench}.json").write_text(json.dumps(content, indent=1) + "\n", "utf-8")


def kept(bench: str, folder: Path = KEPT) -> tuple[str, list[Beside]] | None:
    """When it was measured, and what; None where it was not."""
    path = folder / f"{bench}.json"
    if not path.exists():
        return None
    content = json.loads(path.read_text("utf-8"))
    return content["at"], [_read(one) for one in content["found"]]


def _read(one: dict[str, Any]) -> Beside:
    sides = {name: Side(**one[name]) for name in ("ours", "peer")}
    return Beside(**(one | sides))
