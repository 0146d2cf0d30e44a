"""Write the corpus into a folder, with a manifest that says what each file is."""

from __future__ import annotations

import importlib
import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from bench.corpus.case import CANARY, Case, MissingError

SCHEMA = "keepstone.corpus/v1"
SEED = 20
MANIFEST = "manifest.json"
# In the order of the manifest.
FAMILIES = (
    "pickle_opcodes",
    "pickle_nested",
    "pickle_stdlib",
    "pickle_libraries",
    "torch_files",
    "joblib_files",
    "numpy_files",
    "cloud_files",
    "archives",
    "keras_files",
    "saved_model",
    "onnx_files",
    "safetensors_files",
    "gguf_files",
    "torch_programs",
    "boosters",
    "xml_files",
    "tflite_files",
    "bundles",
    "mlflow_folders",
    "hub_folders",
    "notebooks",
    "configuration",
    "estimators",
    "plain_data",
)


def write_corpus(
    folder: Path, seed: int = SEED, families: Iterable[str] = FAMILIES
) -> dict[str, Any]:
    """Write the families into `folder`, which must be new or empty; return the manifest.

    A part whose library is missing is in the manifest's `skipped`, with the reason.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    files: list[dict[str, Any]] = []
    skipped: list[dict[str, str]] = []
    for family in families:
        module = importlib.import_module(f"bench.corpus.families.{family}")
        for part in module.PARTS:
            try:
                files.extend(_write(folder, family, case) for case in part(seed))
            except MissingError as error:
                name = part.__name__.lstrip("_")
                skipped.append({"family": family, "part": name, "reason": str(error)})
    # What a path that leads out of a family's folder finds; it is no case.
    (folder / CANARY).write_bytes(b"canary\n")
    manifest = {"schema": SCHEMA, "seed": seed, "files": files, "skipped": skipped}
    (folder / MANIFEST).write_text(json.dumps(manifest, indent=1) + "\n", "utf-8")
    return manifest


def read_manifest(folder: Path) -> dict[str, Any]:
    """Raises ValueError where the manifest is of another version."""
    manifest: dict[str, Any] = json.loads((folder / MANIFEST).read_text("utf-8"))
    if manifest["schema"] != SCHEMA:
        raise ValueError(f"the manifest is of the schema {manifest['schema']}")
    return manifest


def _write(folder: Path, family: str, case: Case) -> dict[str, Any]:
    path = Path(family) / case.file_name
    whole = folder / path
    if whole.exists():
        raise FileExistsError(f"{path} is there twice")
    members = {"": case.content} if isinstance(case.content, bytes) else case.content
    for name, content in members.items():
        file = whole / name if name else whole
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        # Nothing here is to be run by mistake.
        os.chmod(file, 0o644)
    return {
        "path": str(path),
        "family": family,
        "malicious": case.malicious,
        "loader": case.loader,
        "fires": case.fires,
        "size": sum(len(content) for content in members.values()),
    }
