"""Write the corpus: each file holds one secret or none, and the manifest says which."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from bench.corpus.case import MissingError
from bench.planted.carriers import CARRIERS, HOLD_OUT, WHOLE, Carrier
from bench.planted.honest import honest_files
from bench.planted.values import FAMILIES, Family

SEED = 20
MANIFEST = "manifest.json"
# A family that is nothing without a name or a place that says what it is.
NEEDS_NAME = frozenset(
    (
        *("twilio", "wandb", "comet", "mlflow", "password", "password upper", "secret key"),
        *("api key", "hex secret", "auth token"),
    )
)
HONEST_ROUNDS = 6


def write_planted(
    folder: Path, seed: int = SEED, *, each: int = 12, rounds: int = HONEST_ROUNDS
) -> dict[str, Any]:
    """Write into `folder`, which must be new or empty; return the manifest.

    Every family lies in `each` of the carriers, and in all hold-outs that fit it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    source = random.Random(seed)
    files: list[dict[str, Any]] = []
    for family, carrier, hold_out in _planted(source, each):
        value = family.make(source)
        try:
            content = carrier.make(family, value, source)
        except MissingError:
            continue
        name = f"{len(files):04}_{family.kind}_{carrier.kind}".replace(" ", "-")
        path = f"{'hold_out' if hold_out else 'planted'}/{name}{carrier.ending}"
        _write(folder / path, content)
        files.append(_entry(path, family.kind, carrier.kind, hold_out, content))
    for name, content in honest_files(source, rounds):
        _write(folder / "honest" / name, content)
        files.append(_entry(f"honest/{name}", "", "", False, content))
    manifest = {"seed": seed, "files": files}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    return manifest


def _planted(source: random.Random, each: int) -> Iterator[tuple[Family, Carrier, bool]]:
    for number, family in enumerate(FAMILIES):
        if family.whole:
            yield from ((family, carrier, False) for carrier in WHOLE)
            continue
        fit = [one for one in CARRIERS if one.named or family.kind not in NEEDS_NAME]
        # Round and round, so that each carrier has its turn whatever `each` is.
        start = number * each
        for place in range(min(each, len(fit))):
            yield family, fit[(start + place) % len(fit)], False
        for carrier in HOLD_OUT:
            yield family, carrier, True


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)


def _entry(path: str, family: str, carrier: str, hold_out: bool, content: bytes) -> dict[str, Any]:
    lines = content.count(b"\n")
    return {
        "path": path,
        "family": family,
        "carrier": carrier,
        "hold_out": hold_out,
        "lines": lines,
    }
