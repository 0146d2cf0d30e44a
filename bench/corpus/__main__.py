"""`python -m bench.corpus FOLDER [--seed N] [FAMILY...]` writes the corpus into a new folder."""

from __future__ import annotations

import argparse
import os
import sys
from collections import Counter
from pathlib import Path

from bench.corpus.write import FAMILIES, SEED, write_corpus


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.corpus", description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("families", nargs="*", metavar="FAMILY")
    parser.add_argument("--seed", type=int, default=SEED)
    given = parser.parse_args(arguments)
    unknown = sorted(set(given.families) - set(FAMILIES))
    if unknown:
        print(f"There is no family {unknown[0]!r}; there are: {', '.join(FAMILIES)}.")
        return 2
    manifest = write_corpus(given.folder, given.seed, given.families or FAMILIES)
    counts = Counter((file["family"], file["malicious"]) for file in manifest["files"])
    for family in given.families or FAMILIES:
        print(f"{family:18} {counts[family, True]:4} malicious {counts[family, False]:4} benign")
    total = sum(file["size"] for file in manifest["files"])
    bad = sum(file["malicious"] for file in manifest["files"])
    print(f"{bad} malicious, {len(manifest['files']) - bad} benign, {total / 1e6:.1f} MB")
    for part in manifest["skipped"]:
        print(f"skipped: {part['family']}, {part['part']}: {part['reason']}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    # The order of a set of strings changes with the hash's seed, and with it what pickle writes.
    if os.environ.get("PYTHONHASHSEED") != "0":
        again = [sys.executable, "-m", "bench.corpus", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, "PYTHONHASHSEED": "0"})
    sys.exit(main(sys.argv[1:]))
