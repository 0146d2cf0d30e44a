"""Keepstone: nothing serves a prediction unless signed evidence satisfies the policy.

The names below are the public Python API, a thin face over the rooms that hold them. Each is
imported when it is first asked for, so that `import keepstone` costs nothing.

    from pathlib import Path
    import keepstone

    report = keepstone.scan_paths([Path("model.onnx")])
    site = keepstone.Site(keepstone.Layout(Path(".keepstone").absolute()), Path("checkpoints"))
    with keepstone.read_workspace(site) as view:
        print(view.policy.profile, len(view.evidence.statements))
    model = keepstone.load("digits", workspace=".keepstone")
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from keepstone.errors import KeepstoneError as KeepstoneError
    from keepstone.evidence.modelsign import sign_model as sign_model
    from keepstone.evidence.modelsign import verify_model as verify_model
    from keepstone.scan.paths import scan_paths as scan_paths
    from keepstone.trust.opening import open_bundle as open_bundle
    from keepstone.workspace.admit import Submission as Submission
    from keepstone.workspace.admit import submit as submit
    from keepstone.workspace.backup import back_up as back_up
    from keepstone.workspace.backup import restore as restore
    from keepstone.workspace.create import create_workspace as create_workspace
    from keepstone.workspace.layout import Layout as Layout
    from keepstone.workspace.loading import Model as Model
    from keepstone.workspace.loading import load as load
    from keepstone.workspace.opened import open_workspace as open_workspace
    from keepstone.workspace.proving import prove_entry as prove_entry
    from keepstone.workspace.proving import verify_proof_file as verify_proof_file
    from keepstone.workspace.reading import read_workspace as read_workspace
    from keepstone.workspace.reading import verify_ledger_of as verify_ledger_of
    from keepstone.workspace.registry.remote import RemoteRegistry as RemoteRegistry
    from keepstone.workspace.registry.remote import connect as connect
    from keepstone.workspace.serve import ServeOptions as ServeOptions
    from keepstone.workspace.serve import up as up
    from keepstone.workspace.site import Site as Site

__version__ = "0.1.0"

_PUBLIC = {
    "KeepstoneError": "errors",
    "Layout": "workspace.layout",
    "Model": "workspace.loading",
    "RemoteRegistry": "workspace.registry.remote",
    "ServeOptions": "workspace.serve",
    "Site": "workspace.site",
    "Submission": "workspace.admit",
    "back_up": "workspace.backup",
    "connect": "workspace.registry.remote",
    "create_workspace": "workspace.create",
    "load": "workspace.loading",
    "open_bundle": "trust.opening",
    "open_workspace": "workspace.opened",
    "prove_entry": "workspace.proving",
    "read_workspace": "workspace.reading",
    "restore": "workspace.backup",
    "scan_paths": "scan.paths",
    "sign_model": "evidence.modelsign",
    "submit": "workspace.admit",
    "up": "workspace.serve",
    "verify_ledger_of": "workspace.reading",
    "verify_model": "evidence.modelsign",
    "verify_proof_file": "workspace.proving",
}
__all__ = ["__version__", *_PUBLIC]  # names only


def __getattr__(name: str) -> Any:
    home = _PUBLIC.get(name)
    if home is None:
        raise AttributeError(f"module 'keepstone' has no attribute {name!r}")
    return getattr(importlib.import_module(f"keepstone.{home}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
