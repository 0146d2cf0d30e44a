"""A ledger that somebody wrote into: what the registry reads out of it is what was hashed in."""

from __future__ import annotations

import sqlite3
from typing import Any

import pytest

from keepstone.ledger import Kind, Ledger, make_entry
from keepstone.workspace.keys import load_keys
from keepstone.workspace.layout import read_identity
from tests.workspace.registry_shop import LOCAL, opened, refused


def _rewrite(home: Any, old: bytes, new: bytes) -> None:
    assert len(old) == len(new)
    connection = sqlite3.connect(home.layout.ledger)
    for row in connection.execute("SELECT rowid, bodies FROM segments").fetchall():
        if old in row[1]:
            connection.execute(
                "UPDATE segments SET bodies = ? WHERE rowid = ?", (row[1].replace(old, new), row[0])
            )
    connection.commit()
    connection.close()


def _append(home: Any, *bodies: bytes) -> None:
    keys = load_keys(home.layout, None)
    origin = read_identity(home.layout).origin
    with Ledger.open(home.layout.ledger, origin=origin, key=keys.ledger) as ledger:
        for body in bodies:
            ledger.append(body).wait(20)


@pytest.mark.parametrize("filled", [False, True], ids=["newest", "under a full tile"])
def test_a_record_that_was_changed_in_the_file_is_refused(home: Any, filled: bool) -> None:
    """This fails if the registry takes a body from the file without its hash."""
    with opened(home) as shop:
        shop.push(1.0, note="harmless")
    if filled:
        event = make_entry(Kind.EVENT, home.clock.now, {"event": "filler"})
        _append(home, *[event] * 300)
    _rewrite(home, b'"note":"harmless"', b'"note":"harmful!"')
    try:
        with opened(home) as shop:
            code = refused(shop.registry.list, LOCAL).code
    except Exception as error:  # found when the ledger is opened already
        code = getattr(error, "code", "")
    assert code == "ledger.corrupt"


def test_an_entry_that_is_no_record_ends_every_answer(home: Any) -> None:
    with opened(home) as shop:
        shop.push(1.0)
    _append(home, make_entry(Kind.REGISTRY, home.clock.now, {"op": "approved", "model": "fraud"}))
    with opened(home) as shop:
        for action in (
            lambda: shop.registry.list(LOCAL),
            lambda: shop.registry.pull(LOCAL, "fraud@1"),
            lambda: shop.push(2.0),
            lambda: shop.registry.alias(LOCAL, "fraud@1", "best"),
        ):
            error = refused(action)
            assert (error.code, int(error.exit_code)) == ("registry.unreadable", 3)


def test_a_forged_confirmation_ends_every_answer(home: Any) -> None:
    """Somebody with the ledger's file and key writes a promotion that nobody confirmed."""
    from keepstone.core.digest import Digest
    from keepstone.vault.registry.records import STAGE, Author, Moved, record_body

    with opened(home) as shop:
        shop.push(1.0)
    forged = Moved(
        by=Author("user:eve", "api_key", "k"),
        model="fraud",
        kind=STAGE,
        pointer="production",
        number=1,
        was=None,
        policy=Digest("00" * 32),
        evidence=(),
        proposal=0,
        note="",
    )
    _append(home, record_body(forged, home.clock.now))
    with opened(home) as shop:
        assert refused(shop.registry.pull, LOCAL, "fraud@production").code == "registry.unreadable"
