"""One table of every attack beside its peers, so that a reader sees where ours is not better.

It measures nothing: it prints what `attacks_black`, `attacks_gradient` and `attacks_white` kept in
build/lab/ when they ran last, and when that was. `make bench` runs them before this one. What was
not measured is said, and counts as missed.
"""

from __future__ import annotations

from typing import Any

from bench.beside import FAMILIES, Beside, kept, table

BENCHES = ("attacks_black", "attacks_gradient", "attacks_white")


def gathered() -> tuple[list[Beside], list[str]]:
    """What was kept, and a line on each bench."""
    found: list[Beside] = []
    notes = []
    for bench in BENCHES:
        one = kept(bench)
        if one is None:
            notes.append(f"{bench}: not measured; run `make bench BENCH={bench}`")
            continue
        notes.append(f"{bench}: measured on {one[0]}")
        found += one[1]
    return found, notes


def shown() -> str:
    found, notes = gathered()
    missed = [one for one in found if one.lacks or one.failed]
    lines = [
        table(found),
        "",
        "what ours does not meet, and what did not run:",
        *(f"  {one.subject}, {one.peer.attack}: {one.verdict} {one.failed}" for one in missed),
        "",
        *notes,
    ]
    return "\n".join(line.rstrip() for line in lines)


def rows() -> list[dict[str, Any]]:
    print(shown())
    found, _ = gathered()
    made = []
    for family in FAMILIES:
        ran = [one for one in found if one.family == family and not one.failed]
        met = sum(not one.lacks for one in ran)
        made.append(
            {
                "name": f"lab_attacks.{family.replace(' ', '_')}",
                "ours": met,
                "peer": ", ".join(sorted({one.peer.attack.split(" ")[0] for one in ran})) or "none",
                "peer_value": len(ran),
                "unit": "comparisons met",
                "ratio": met / len(ran) if ran else None,
                "target": "all",
                "met": bool(ran) and met == len(ran),
            }
        )
    return made


if __name__ == "__main__":
    print(shown())
