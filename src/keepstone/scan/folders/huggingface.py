"""Hugging Face folders: code that a loader would run, and shards that are not there.

`auto_map` and `trust_remote_code` are findings of the file that has them. Here is what takes
two files: a generation method of the model's own, a handler for an endpoint, an index whose
shards are missing. Sources: transformers' dynamic_module_utils.py and
generation/utils.py (`custom_generate`), huggingface_inference_toolkit (`handler.py`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from posixpath import basename, dirname

from keepstone.core.finding import Finding
from keepstone.scan.folders.folder import Look
from keepstone.scan.rules import printable
from keepstone.scan.text.config import leads_out


def scan_huggingface(look: Look) -> Iterator[Finding]:
    """Judge every folder with a `config.json` or an index of shards."""
    for path in look.called("config.json"):
        for name in ("custom_generate/generate.py", "handler.py"):
            own = look.beside(path, name)
            if own in look.known:
                reason = f"The folder brings {name}, which its loader runs."
                yield look.say("folder.remote_code", reason, own)
    for name in ("dataset_infos.json", "dataset_info.json"):
        for path in look.called(name):
            for own in [one for one in look.known if dirname(one) == dirname(path)]:
                if own.endswith(".py"):
                    yield look.say("folder.code", "The data set is loaded by a script.", own)
    for path in list(look.known):
        if basename(path).endswith((".safetensors.index.json", ".bin.index.json")):
            yield from _shards(look, path)


def _shards(look: Look, path: str) -> Iterator[Finding]:
    value = look.json(path)
    shards = value.get("weight_map") if isinstance(value, Mapping) else None
    if not isinstance(shards, Mapping):
        yield look.say("folder.missing", "The index names no shards.", path)
        return
    names = {name for name in shards.values() if isinstance(name, str)}
    missing = sorted(
        name for name in names if not leads_out(name) and look.beside(path, name) not in look.known
    )
    # An index alone, as some tools keep it, names nothing that could be looked for.
    if missing and any(dirname(one) == dirname(path) and one != path for one in look.known):
        shown = printable(", ".join(missing), 80)
        yield look.say("folder.missing", f"Shards are not in the folder: {shown}.", path)
