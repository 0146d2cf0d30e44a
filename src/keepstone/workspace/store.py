"""Which store a workspace's sealed models lie in: its own folder, or what `store.json` names.

The file holds an address and nothing that opens it. Without the file it is the folder.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import closing, contextmanager

from keepstone.core.canonical import canonical, parse_json
from keepstone.errors import InputError, OperationalError
from keepstone.files import storage_errors, sync_directory, write_atomic
from keepstone.vault.stores import BlobStore, StoreAddress, open_store, parse_store_address
from keepstone.vault.stores.files import FileStore
from keepstone.workspace.layout import Layout

SCHEMA = "keepstone.store/v1"
_NEWER = re.compile(r"keepstone\.store/v[0-9]{1,9}\Z")
_LIMIT = 1 << 16


def read_store_address(layout: Layout) -> StoreAddress | None:
    """Where the sealed models lie, None for the workspace's own folder.

    Raises InputError `workspace.malformed`, `workspace.newer_version`; OperationalError
    `workspace.unreadable`. What cannot be read is never the folder.
    """
    try:
        with layout.store.open("rb") as file:
            document = parse_json(file.read(_LIMIT + 1), limit=_LIMIT)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise OperationalError(
            "workspace.unreadable", f"Cannot read {layout.store}: {error.strerror}."
        ) from error
    except InputError as error:
        raise _malformed(layout) from error
    match document:
        case {"schema": str() as schema, "store": str() as text} if schema == SCHEMA:
            try:
                return parse_store_address(text)
            except InputError as error:
                raise _malformed(layout) from error
        case {"schema": str() as schema} if schema != SCHEMA and _NEWER.match(schema):
            raise InputError(
                "workspace.newer_version",
                f"{layout.store} follows {schema}; this Keepstone knows {SCHEMA}.",
                "Use the Keepstone that wrote it, or a newer one.",
            )
    raise _malformed(layout)


def write_store_address(layout: Layout, address: StoreAddress | None) -> None:
    """From the return on it is this store, in one step."""
    if address is not None:
        write_atomic(layout.store, canonical({"schema": SCHEMA, "store": str(address)}))
        return
    with storage_errors(layout.store):
        layout.store.unlink(missing_ok=True)
        sync_directory(layout.root)


def store_at(layout: Layout, address: StoreAddress | None) -> BlobStore:
    """The store at `address`; close it. Raises as `open_store`."""
    # Logins to a registry are found as docker finds them, and AWS's as its own tools do.
    return FileStore(layout.vault) if address is None else open_store(address, os.environ)


@contextmanager
def opened_store(layout: Layout) -> Iterator[BlobStore]:
    """The workspace's store, for the block; nothing is asked of it yet."""
    with closing(store_at(layout, read_store_address(layout))) as store:
        yield store


def in_use(store: BlobStore) -> InputError:
    return InputError(
        "store.in_use",
        f"Sealed models of somebody else lie in {store.place}.",
        "Give each workspace a prefix or repository of its own.",
    )


def _malformed(layout: Layout) -> InputError:
    return InputError(
        "workspace.malformed",
        f"{layout.store} does not name a store.",
        "Restore it from a backup.",
    )
