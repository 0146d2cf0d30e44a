"""What someone who can write the files tries: acts on the ledger."""

from __future__ import annotations

import json
import shutil
import sqlite3

from act import Act, Outcome, act
from place import Place

LEDGER: list[Act] = []


def _verify(place: Place, workspace: str) -> tuple[int, str]:
    done = place.keepstone("ledger", "verify", "--format", "json", workspace=workspace)
    try:
        return done.returncode, json.loads(done.stdout)["status"]
    except ValueError:
        return done.returncode, done.stderr.strip()


def _filled(place: Place, workspace: str) -> None:
    """A workspace that has served a few predictions, and is at rest."""
    with place.serving(place.model, workspace=workspace) as endpoint:
        for _ in range(5):
            endpoint.send(place.sample)


@act(LEDGER, "an honest ledger", "exit 0 verified, against the outside checkpoint")
def honest(place: Place) -> Outcome:
    _filled(place, "ledger-site")
    status, verdict = _verify(place, "ledger-site")
    return Outcome(f"exit {status} {verdict}", status == 0 and verdict == "verified")


@act(LEDGER, "one byte of one entry edited", "exit 1 corrupt")
def edited(place: Place) -> Outcome:
    target = place.copy_workspace("edited-site", "ledger-site") / "ledger" / "ledger.db"
    with sqlite3.connect(target) as database:
        first, bodies = database.execute(
            "SELECT first, bodies FROM segments ORDER BY first DESC LIMIT 1"
        ).fetchone()
        changed = bytearray(bodies)
        changed[len(changed) // 2] ^= 1
        database.execute("UPDATE segments SET bodies = ? WHERE first = ?", (bytes(changed), first))
    database.close()
    status, verdict = _verify(place, "edited-site")
    return Outcome(f"exit {status} {verdict}", status == 1 and verdict == "corrupt")


@act(LEDGER, "the tail cut, checkpoints and all", "exit 1 rolled_back, by the outside checkpoint")
def cut(place: Place) -> Outcome:
    target = place.copy_workspace("cut-site", "ledger-site") / "ledger" / "ledger.db"
    with sqlite3.connect(target) as database:
        (last,) = database.execute("SELECT max(first) FROM segments").fetchone()
        database.execute("DELETE FROM segments WHERE first >= ?", (last,))
        database.execute("DELETE FROM entry_keys WHERE number >= ?", (last,))
        database.execute("DELETE FROM checkpoints WHERE size > ?", (last,))
    database.close()
    status, verdict = _verify(place, "cut-site")
    return Outcome(f"exit {status} {verdict}", status == 1 and verdict == "rolled_back")


@act(LEDGER, "an old copy of the whole workspace put back", "up refuses: exit 1 ledger.rolled_back")
def rolled_back(place: Place) -> Outcome:
    _filled(place, "rollback-site")
    place.copy_workspace("rollback-old", "rollback-site")
    _filled(place, "rollback-site")
    shutil.rmtree(place.root / "rollback-site")
    (place.root / "rollback-old").rename(place.root / "rollback-site")
    done = place.keepstone("up", place.model, "--port", 0, workspace="rollback-site")
    code = done.stderr.partition("error[")[2].partition("]")[0]
    held = done.returncode == 1 and code == "ledger.rolled_back"
    return Outcome(f"exit {done.returncode} {code}", held)
