"""Which container is opened by whom."""

from __future__ import annotations

from functools import partial

from keepstone.scan.archive.compressed import KINDS, scan_compressed
from keepstone.scan.archive.numpy import scan_numpy
from keepstone.scan.archive.zip import scan_zip
from keepstone.scan.formats import ZIPS
from keepstone.scan.torch.archive import scan_torch
from keepstone.scan.torch.export import scan_export
from keepstone.scan.view import Scanner

CONTAINERS: dict[str, Scanner] = {
    **dict.fromkeys(ZIPS, scan_zip),
    **{kind: partial(scan_compressed, kind=kind) for kind in KINDS},
    "numpy": scan_numpy,
    "torch": scan_torch,
    "pt2": scan_export,
}
