"""The files beside an ONNX model that its weights lie in.

Promise: only regular files in the folder of the scanned file, or below it, are opened, and no
link is followed on the way, whatever the model says. What was opened stays open until the model
is judged, so that what the runtime is shown is what was looked at.

Source: onnx.proto (`TensorProto.external_data`), and CVE-2024-27318 and CVE-2025-51480 (paths
that leave the folder).
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from keepstone.scan.view import View

MAX_FILES = 16
MAX_BYTES = 8 << 30
_OUTSIDE = re.compile(r"^[/~]|^[A-Za-z]:|\\|\x00|://|(^|/)\.\.(/|$)|^$")
_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | os.O_NOFOLLOW


@dataclass(slots=True)
class ExternalFiles:
    """Descriptors of the files that were opened, by the names that the model gives them."""

    folder: int | None
    model: os.stat_result
    files: dict[str, int] = field(default_factory=dict)
    size: int = 0

    @classmethod
    @contextmanager
    def beside(cls, view: View) -> Iterator[ExternalFiles]:
        """The files beside `view`, which has none where it is a member of something."""
        # A member of something has no folder; what stands for its file then does not matter.
        model = os.fstat(view.source) if view.source is not None else os.stat(os.devnull)  # noqa: PTH116
        found = cls(_folder_of(view), model)
        try:
            yield found
        finally:
            for descriptor in found.files.values():
                os.close(descriptor)
            if found.folder is not None:
                os.close(found.folder)

    def open(self, location: str, reach: int) -> tuple[str, str] | None:
        """Open the file at `location`, of which tensors use `reach` bytes; or which rule is met."""
        if _OUTSIDE.search(location):
            return "onnx.external_data", "that is outside of the model's folder"
        if reach < 0:
            return "onnx.external_data", "where in it is no number"
        if self.folder is None:
            return "onnx.external_missing", "the model is part of another file"
        try:
            descriptor = _open_below(self.folder, location)
        except (FileNotFoundError, NotADirectoryError):
            return "onnx.external_data", "no such file is beside the model"
        except OSError:
            return "onnx.external_data", "a link leads there, or it cannot be opened"
        status = os.fstat(descriptor)
        problem = None
        if not stat.S_ISREG(status.st_mode):
            problem = "onnx.external_data", "that is no regular file"
        elif os.path.samestat(status, self.model):
            problem = "onnx.external_data", "that is the model itself"
        elif reach > status.st_size:
            problem = "onnx.external_data", "a tensor reaches beyond the end of it"
        elif len(self.files) >= MAX_FILES or self.size + status.st_size > MAX_BYTES:
            problem = "onnx.too_large", "there are more or larger files than the limit"
        if problem is not None:
            os.close(descriptor)
            return problem
        self.files[location] = descriptor
        self.size += status.st_size
        return None


def _folder_of(view: View) -> int | None:
    """The folder that the open file lies in: asked of the descriptor, not of a name."""
    if view.source is None or view.member is not None:
        return None
    with suppress(OSError):
        path = Path(f"/proc/self/fd/{view.source}").readlink()
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        with suppress(OSError):
            # The name may have been given to another file since.
            beside = os.stat(path.name, dir_fd=folder)
            if os.path.samestat(beside, os.fstat(view.source)):
                return folder
        os.close(folder)
    return None


def _open_below(folder: int, location: str) -> int:
    """Open step by step, so that no step is a link."""
    *way, last = [part for part in location.split("/") if part not in ("", ".")]
    at = os.dup(folder)
    try:
        for part in way:
            below = os.open(part, _FLAGS | os.O_DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        return os.open(last, _FLAGS, dir_fd=at)
    finally:
        os.close(at)
