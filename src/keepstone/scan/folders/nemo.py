"""NeMo archives (`.nemo`): the files that `model_config.yaml` takes out of the archive.

The class that its `target` names is a finding of the configuration, and the checkpoint is judged
as a file. Source: NVIDIA NeMo, nemo/core/connectors/save_restore_connector.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from keepstone.core.finding import Finding
from keepstone.scan.folders.folder import Look
from keepstone.scan.rules import printable
from keepstone.scan.text.config import leads_out

_MARK = "nemo:"


def scan_nemo(look: Look) -> Iterator[Finding]:
    """Judge every folder with a NeMo configuration."""
    for path in look.called("model_config.yaml"):
        for name in sorted(set(_artifacts(look.yaml(path)))):
            shown = printable(name, 60)
            if leads_out(name):
                yield look.say("config.path", f"An artifact lies outside: {shown}.", path)
            elif not look.has(look.beside(path, name)):
                yield look.say("folder.missing", f"An artifact is not here: {shown}.", path)


def _artifacts(root: Any) -> Iterator[str]:
    """Every `nemo:` path; each container is looked at once."""
    pending, seen = [root], set()
    while pending:
        value = pending.pop()
        if isinstance(value, str) and value.startswith(_MARK):
            yield value.removeprefix(_MARK)
        elif isinstance(value, Mapping | list) and id(value) not in seen:
            seen.add(id(value))
            pending += value.values() if isinstance(value, Mapping) else value
