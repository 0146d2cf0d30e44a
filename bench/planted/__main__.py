"""`python -m bench.planted FOLDER [SEED]`."""

import sys
from pathlib import Path

from bench.planted.write import SEED, write_planted

if __name__ == "__main__":
    made = write_planted(Path(sys.argv[1]), int(sys.argv[2]) if len(sys.argv) > 2 else SEED)
    planted = sum(bool(file["family"]) for file in made["files"])
    print(f"{planted} files with a secret, {len(made['files']) - planted} honest ones")
