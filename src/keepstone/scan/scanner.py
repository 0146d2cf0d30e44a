"""Judge one file: it gets a verdict, and only a whole look makes it clean.

A scanner is a function from an open file to findings; the table below says which format has
one. A format without one, an error or a limit is *not evaluated*, with the reason. What only
several files together show is added to the report on one of them (`keepstone.scan.folders`).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from pathlib import Path

from keepstone.core.digest import Digest
from keepstone.core.finding import Finding, Outcome
from keepstone.errors import KeepstoneError, OperationalError
from keepstone.scan.archive.containers import CONTAINERS
from keepstone.scan.archive.folders import also_as_folder
from keepstone.scan.archive.sevenzip import scan_7z
from keepstone.scan.archive.tar import scan_tar
from keepstone.scan.contract import scan_contract
from keepstone.scan.datafiles import data_files
from keepstone.scan.formats import EMPTY, UNKNOWN, ZIPS, identify
from keepstone.scan.keras.archive import scan_keras
from keepstone.scan.keras.hdf5 import scan_hdf5
from keepstone.scan.markup.xml import scan_xml
from keepstone.scan.onnx.structure import scan_onnx
from keepstone.scan.pickle.allowlist import Added
from keepstone.scan.polyglot import find_second_format
from keepstone.scan.report import FileReport
from keepstone.scan.rules import MAX_FINDINGS, RULES_VERSION, finding, printable, verdict
from keepstone.scan.skops import scan_skops
from keepstone.scan.smells.look import smells_of
from keepstone.scan.tensorflow.saved_model import TENSORFLOW, scan_tensorflow
from keepstone.scan.tensorflow.tflite import scan_tflite
from keepstone.scan.tensors.gguf import scan_gguf
from keepstone.scan.tensors.safetensors import scan_safetensors
from keepstone.scan.text.programs import PROGRAMS, scan_html, scan_program
from keepstone.scan.text.scanner import scan_text
from keepstone.scan.torch.legacy import scan_pickle_file
from keepstone.scan.trees.catboost import scan_catboost
from keepstone.scan.trees.either import scan_xgboost
from keepstone.scan.trees.scanner import scan_ubjson, scan_xgboost_binary
from keepstone.scan.view import Scanner, View, open_view

__all__ = [
    "RULES_VERSION",
    "SCANNERS",
    "judge",
    "report_on",
    "scan_file",
    "scan_named",
    "unjudged",
]

# The seam: a format's scanner, by the name that `identify` gives it.
SCANNERS: Mapping[str, Scanner] = {
    "contract": scan_contract,
    "gguf": scan_gguf,
    "onnx": scan_onnx,
    "pickle": scan_pickle_file,
    "safetensors": scan_safetensors,
    **CONTAINERS,
    **{kind: also_as_folder(CONTAINERS[kind]) for kind in ZIPS},
    "keras": also_as_folder(scan_keras),
    "skops": also_as_folder(scan_skops),
    "hdf5": scan_hdf5,
    **dict.fromkeys(TENSORFLOW, scan_tensorflow),
    "tflite": scan_tflite,
    "tar": scan_tar,
    "7z": scan_7z,
    "xml": scan_xml,
    "html": scan_html,
    **dict.fromkeys(("text", "json", "notebook", "lightgbm", "script"), scan_text),
    "ubjson": scan_ubjson,
    "catboost": scan_catboost,
    "xgboost": scan_xgboost,
    "xgboost-binary": scan_xgboost_binary,
    **dict.fromkeys(PROGRAMS, scan_program),
}


def scan_file(
    path: Path,
    shown: str | None = None,
    allowed: tuple[Added, ...] = (),
    known: Digest | None = None,
) -> FileReport:
    """Return the verdict on one file, whatever is in it and whatever it does to its scanner.

    `known` is the digest that a large file has by the caller's word: it is not hashed again.
    """
    name = printable(str(path) if shown is None else shown, 4096)
    try:
        with open_view(path, name, judge, allowed, known) as view:
            return report_on(view)
    except KeepstoneError as error:
        return unjudged(name, error.cause)


def scan_named(path: Path, allowed: tuple[Added, ...] = ()) -> FileReport:
    """The verdict on a file that the caller named, who is told where it cannot be read."""
    name = printable(str(path), 4096)
    try:
        with open_view(path, name, judge, allowed) as view:
            return report_on(view)
    except OperationalError as error:
        return unjudged(name, error.cause)


def report_on(view: View) -> FileReport:
    found = tuple(islice(judge(view), MAX_FINDINGS))
    if len(found) == MAX_FINDINGS:
        found = (*found, view.unseen(f"There are more than {MAX_FINDINGS} findings."))
    kind = identify(view.data)
    odd, reads = smells_of(view, kind), data_files(view, kind)
    size, outcome, leaned = len(view.data), verdict(found), tuple(sorted(view.allowance.leaned))
    return FileReport(view.path, view.sha256, size, kind, outcome, found, odd, reads, leaned=leaned)


def judge(view: View) -> Iterator[Finding]:
    """Judge a file, or a part of one, by what it is. No finding means clean. Never raises."""
    try:
        kind = identify(view.data, view.allowance)
        scanner = SCANNERS.get(kind)
        if scanner is None:
            yield _no_scanner(kind, view)
        else:
            yield from scanner(view)
        yield from find_second_format(view, kind)
        if view.allowance.opcodes <= 0:
            yield view.unseen("The file has more opcodes of pickles than the limit allows.")
    except KeepstoneError as error:
        yield view.unseen(error.cause)
    except Exception as error:  # noqa: BLE001  # an edge: the file is an attacker's
        # A scanner that fails on a file has not judged it, and must not end the whole scan.
        yield view.unseen(f"The scanner failed: {type(error).__name__}.")


def _no_scanner(kind: str, view: View) -> Finding:
    known = {UNKNOWN: "The format of the file is not known.", EMPTY: "The file is empty."}
    return view.unseen(known.get(kind, f"There is no scanner for the format {kind} yet."))


def unjudged(path: str, reason: str) -> FileReport:
    """The report on a file that could not be looked at."""
    item = finding("scan.not_evaluated", reason, path)
    return FileReport(path, None, 0, UNKNOWN, Outcome.NOT_EVALUATED, (item,))
