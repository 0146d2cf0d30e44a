"""Make a fingerprint of an admitted model, and ask a suspect its questions.

What is committed is in the ledger before there is any dispute: commitments to every question and
answer, the secret's digest, and the chance of an independent model that the test will use. The
questions themselves lie encrypted in the workspace. Each check is recorded with what came of it.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from keepstone.contract.validate import Array
from keepstone.core.ports import Randomness, SystemRandomness
from keepstone.errors import InputError
from keepstone.lab.ownership.asking import answers_to, ask_all
from keepstone.lab.ownership.calibration import matches_of
from keepstone.lab.ownership.commitment import MAX_CROSSINGS, Opening, commitments
from keepstone.lab.ownership.crossings import Answer, Ask, Crossing, Kind, find_crossings
from keepstone.lab.ownership.judge import Judgement, calibrate, judge, require_enough
from keepstone.lab.ownership.secret import SIZE, Secret
from keepstone.lab.ownership.space import Space
from keepstone.lab.targets.reading import Reading
from keepstone.workspace.fingerprint_record import (
    Fingerprint,
    find,
    secret_questions,
    write_body,
)
from keepstone.workspace.loading import Model, load
from keepstone.workspace.operations import perform
from keepstone.workspace.site import Site
from keepstone.workspace.suspect import open_suspect

COUNT = 150
# How far from the change the questions lie, in parts of the line: measured, see the bench.
MARGIN = 0.16
BATCH = 64


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a fingerprint is to be made of. `low` and `high` stand in for undeclared ranges.

    `independent_output` is the output of the independent models that is their answer: without
    it, the one that is called `output`.
    """

    model: str
    count: int = COUNT
    output: str | None = None
    architecture: str | None = None
    independent: tuple[Path, ...] = ()
    independent_output: str | None = None
    low: float | None = None
    high: float | None = None


def create(site: Site, wanted: Wanted, randomness: Randomness | None = None) -> Fingerprint:
    """Make a fingerprint of an admitted model and commit to it.

    (1) The gate says yes to loading the model, and that is recorded. (2) Crossings are found by
    asking it. (3) Each model that is said to be independent is asked them all, and a match has to
    be possible. (4) The questions are encrypted and written, then the secret is wrapped and the
    commitments recorded: only now does it exist.

    Raises InputError `fingerprint.*`, `model.never_admitted`; DeniedError `gate.*`,
    `target.flagged`; and what loading raises.
    """
    if not 10 <= wanted.count <= MAX_CROSSINGS:
        raise InputError(
            "fingerprint.bad_count", f"A fingerprint has 10 to {MAX_CROSSINGS} crossings."
        )
    # (1)
    model = load(wanted.model, workspace=site, architecture=wanted.architecture)
    reading = Reading.of(model.contract, wanted.output)
    secret = Secret((randomness or SystemRandomness()).token_bytes(SIZE))
    # (2)
    space = Space.of(model.contract, wanted.low, wanted.high)
    ask = _asker(model, reading)
    crossings = find_crossings(ask, space, secret, wanted.count, MARGIN)
    # (3)
    kind = Kind.LABEL if crossings[0].answers else Kind.NUMBER
    output = wanted.independent_output or wanted.output
    rates = [_rate(path, output, secret, crossings) for path in wanted.independent]
    null = calibrate(rates, kind)
    require_enough(len(crossings), null)
    # (4)
    name = f"fp-{secret.digest.hex[:12]}"
    openings = [Opening(at, one, secret.salt(at)) for at, one in enumerate(crossings)]
    write_body(site.layout, name, secret, openings)
    fields = {
        "id": name,
        "model": model.name,
        "digest": model.digest.hex,
        "type": kind.value,
        "width": space.width,
        "margin": repr(MARGIN),
        "null_rate": repr(null.rate),
        "null_models": null.models,
        "secret": secret.digest.hex,
        "committed": commitments(openings),
    }
    perform(
        site,
        "fingerprint.commit",
        {"seed": b64encode(secret.seed).decode(), "fields": fields},
    )
    return find(site, name)


def _asker(model: Model, reading: Reading) -> Ask:
    def ask(rows: Array) -> Sequence[Answer]:
        found: list[Answer] = []
        for start in range(0, len(rows), BATCH):
            part = rows[start : start + BATCH]
            outputs = model.predict({reading.input.name: reading.question(part)})
            found += reading.answers(outputs, len(part))
        return found

    return ask


def _rate(
    path: Path, output: str | None, secret: Secret, crossings: Sequence[Crossing]
) -> tuple[int, int]:
    with open_suspect(path, output) as suspect:
        given = answers_to(suspect.target.ask, crossings, secret, 0, BATCH)
    return matches_of(str(path), crossings, given)


@dataclass(frozen=True, slots=True)
class Check:
    """What came of asking one suspect, and the entry that records it."""

    fingerprint: Fingerprint
    suspect: str
    judgement: Judgement
    entry: str

    def to_dict(self) -> dict[str, Any]:
        return {
            "schema": "keepstone.fingerprint-check/v1",
            **self.fingerprint.to_dict(),
            "suspect": self.suspect,
            **self.judgement.to_dict(),
            "recorded": self.entry,
        }


def check_file(site: Site, name: str, path: Path, output: str | None = None) -> Check:
    """Ask the model at `path`. Raises as `open_suspect` and `secret_questions`."""
    found = find(site, name)
    secret, openings = secret_questions(site, found)
    with open_suspect(path, output) as suspect:
        shown = str(suspect.digest)
        return _check(site, found, secret, openings, suspect.target.ask, shown)


def check_target(site: Site, name: str, ask: Ask, shown: str) -> Check:
    """Ask a model through `ask`; `shown` names it in the record."""
    found = find(site, name)
    return _check(site, found, *secret_questions(site, found), ask, shown)


def _check(
    site: Site,
    found: Fingerprint,
    secret: Secret,
    openings: Sequence[Opening],
    ask: Ask,
    shown: str,
) -> Check:
    turn = int.from_bytes(SystemRandomness().token_bytes(6), "big")
    matches = ask_all(ask, [one.crossing for one in openings], secret, turn, BATCH)
    judgement = judge(matches, found.null)
    answer = perform(
        site,
        "fingerprint.record",
        {
            "event": "fingerprint.checked",
            "fields": {
                "id": found.name,
                "suspect": shown,
                "outcome": judgement.outcome.value,
                "matches": judgement.matches,
                "answered": judgement.answered,
                "asked": judgement.asked,
            },
        },
    )
    return Check(found, shown, judgement, str(answer["entry"]))
