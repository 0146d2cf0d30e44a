"""The environments of the peers: each its own, pinned in bench/peers/PEER.txt."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
PINS = ROOT / "bench" / "peers"
PEERS = ROOT / "build" / "peers"


def python_of(peer: str, *, complete: bool = False) -> Path:
    """Return the interpreter of `peer`'s environment, made first if its pins changed.

    Our own constraints do not bind a peer: it runs with the versions that its users get. Pins that
    are `complete` are installed as they are, whatever the packages themselves ask for.
    """
    pins = PINS / f"{peer}.txt"
    folder = PEERS / peer
    python = folder / "bin" / "python"
    stamp = folder / "pins.sha256"
    wanted = hashlib.sha256(pins.read_bytes()).hexdigest()
    if python.exists() and stamp.exists() and stamp.read_text("utf-8") == wanted:
        return python
    print(f"installing {peer} into build/peers/{peer}", file=sys.stderr)
    unbound = _unbound()
    subprocess.run([ROOT / "tools" / "venv.sh", folder], check=True, env=unbound)
    pip = [str(python), "-m", "pip", "install", "--quiet", *(["--no-deps"] if complete else [])]
    subprocess.run([*pip, "--requirement", str(pins)], check=True, env=unbound)
    stamp.write_text(wanted, "utf-8")
    return python


def layer_of(peers: str) -> Path:
    """Return a folder of libraries to put behind our own packages, made first if its pins changed.

    For libraries whose requirements we do not follow: they run with the versions of ours.
    """
    pins = PINS / f"{peers}.txt"
    folder = PEERS / peers
    stamp = folder / "pins.sha256"
    wanted = hashlib.sha256(pins.read_bytes()).hexdigest()
    if stamp.exists() and stamp.read_text("utf-8") == wanted:
        return folder
    print(f"installing {peers} into build/peers/{peers}", file=sys.stderr)
    shutil.rmtree(folder, ignore_errors=True)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    subprocess.run([*pip, "--target", folder, "--requirement", pins], check=True, env=_unbound())
    stamp.write_text(wanted, "utf-8")
    return folder


def _unbound() -> dict[str, str]:
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("PIP_CONSTRAINT", "PIP_BUILD_CONSTRAINT")
    }
