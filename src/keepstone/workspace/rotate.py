"""`vault rotate`: own the workspace, replace its key-encryption key, and put that on record."""

from __future__ import annotations

from keepstone.identity.keystores.reference import KeyReference
from keepstone.workspace.kek import Progress, Rotated, begin_rotation, finish_rotation
from keepstone.workspace.opened import open_workspace, record_rotation
from keepstone.workspace.site import Site


def rotate(
    site: Site,
    to: KeyReference | None = None,
    *,
    into_file: bool = False,
    progress: Progress = lambda done: None,
) -> Rotated:
    """Replace the key-encryption key; see `begin_rotation` for which one comes.

    Raises OperationalError `workspace.owned` beside a running endpoint, and as `open_kek`. A
    rotation that stops half way goes on when the workspace is opened next.
    """
    with open_workspace(site) as workspace:
        begin_rotation(site, to, into_file=into_file)
        workspace.record_event("kek.rotating", {"old": workspace.kek.key_id})
        _, rotated = finish_rotation(site, progress)
        assert rotated is not None
        record_rotation(workspace, rotated)
        return rotated


def finish(site: Site) -> None:
    """Finish a rotation that was cut short: opening the workspace does."""
    with open_workspace(site):
        return
