"""The main job end to end, attacked in every way it promises to withstand.

Trains the digits model, serves it with `keepstone up`, plays every act against the real
command line and the real endpoint, and prints what was tried, what should happen and what
happened. Exits 0 only if everything came out as expected.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from act import Act, Outcome  # noqa: E402
from acts_artifacts import ARTIFACTS  # noqa: E402
from acts_lab import LAB  # noqa: E402
from acts_ledger import LEDGER  # noqa: E402
from acts_models import MODELS  # noqa: E402
from acts_registry import REGISTRY, Shop  # noqa: E402
from acts_requests import REQUESTS  # noqa: E402
from acts_signing import SIGNING  # noqa: E402
from acts_supply import SUPPLY  # noqa: E402
from place import Place  # noqa: E402


def prepare(place: Place) -> None:
    """Train the model, make an approver, and a workspace with a limit that is easy to reach."""
    train = HERE.parent / "digits" / "train.py"
    subprocess.run(
        [sys.executable, str(train), "--out", str(place.root / "digits")],
        check=True,
        stdout=subprocess.DEVNULL,
    )
    place.keepstone("signers", "create", "--out", place.root / "alice.pem", check=True)
    place.keepstone("init", check=True)
    place.keepstone(
        "signers", "add", "digits-training", place.root / "digits" / "publisher.pub.pem",
        "--role", "publisher", check=True,
    )  # fmt: skip


def play(act: Act, place: Place) -> Outcome:
    try:
        return act.play(place)
    except Exception as error:  # noqa: BLE001  # one act that breaks must not hide the others
        first = (str(error).strip().splitlines() or [""])[0]
        return Outcome(f"{type(error).__name__}: {first}"[:100], False)


def show(number: int, act: Act, outcome: Outcome) -> None:
    mark = "held" if outcome.held else "FAILED"
    print(f"{number:>2} {mark:<6}  {act.tried}")
    print(f"           should: {act.expected}")
    print(f"           did:    {outcome.observed}", flush=True)


def main() -> int:
    began = time.monotonic()
    results: list[Outcome] = []
    with tempfile.TemporaryDirectory(prefix="keepstone-demo-") as folder:
        place = Place(Path(folder))
        try:
            prepare(place)
            with place.serving(place.model):
                for act in REQUESTS:
                    results.append(play(act, place))
                    show(len(results), act, results[-1])
            with Shop.open(place):
                for act in REGISTRY:
                    results.append(play(act, place))
                    show(len(results), act, results[-1])
            for act in MODELS + ARTIFACTS + SIGNING + SUPPLY + LAB + LEDGER:
                results.append(play(act, place))
                show(len(results), act, results[-1])
        finally:
            place.close()
    failed = sum(not outcome.held for outcome in results)
    seconds = time.monotonic() - began
    print(
        f"\n{len(results) - failed} of {len(results)} acts came out as expected ({seconds:.0f} s)."
    )
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
