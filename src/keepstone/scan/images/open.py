"""What a reference to images means: a folder, an archive, or a place in a registry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from keepstone.errors import InputError
from keepstone.scan.images.archive import open_archive
from keepstone.scan.images.judge import Store
from keepstone.scan.images.layout import LayoutFolder
from keepstone.scan.images.registry import RegistryImages
from keepstone.scan.rules import printable
from keepstone.vault.stores.oci.reference import Reference
from keepstone.vault.stores.oci.registry import open_registry


@contextmanager
def open_images(text: str, environment: Mapping[str, str]) -> Iterator[tuple[Store, str]]:
    """Where the images are that `text` names, and the name that it asks for in a layout.

    What is there as a file or a folder is that; `PATH:NAME` is one image of it. Anything else names
    a registry, whose logins `environment` leads to. Raises InputError `image.missing`.
    """
    path, name = Path(text), ""
    # A name has colons of its own; an empty path is the current folder, which nobody means.
    for at in (at for at, letter in enumerate(text) if letter == ":" and at):
        if not path.exists() and Path(text[:at]).exists():
            path, name = Path(text[:at]), text[at + 1 :]
    if path.is_dir():
        yield LayoutFolder(path), name
    elif path.exists():
        with open_archive(path) as archive:
            yield archive, name
    else:
        with open_registry(environment) as registry:
            yield RegistryImages(registry, _reference(text)), ""


def _reference(text: str) -> Reference:
    try:
        return Reference.parse(text)
    except InputError as error:
        shown = printable(text, 200)
        cause = f"There is no file or folder {shown}, and it names no image in a registry."
        raise InputError("image.missing", cause, error.next_step) from error
