"""Files that a model beside them reads as numbers and nothing else.

Promise: a file without a format of its own is clean only as the data of a model that is clean
itself, at the very path that the model reads it from. What has a format, or a finding of another
kind, stays what it was.

An ONNX model names the files of its weights; a SavedModel keeps its variables under a fixed name
(tensorflow/cc/saved_model/constants.h, tensorflow/core/util/tensor_bundle/naming.cc).
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence
from dataclasses import replace

from keepstone.contract.onnx import read_onnx
from keepstone.core.finding import Outcome
from keepstone.errors import InputError
from keepstone.scan.formats import UNKNOWN
from keepstone.scan.report import FileReport
from keepstone.scan.view import View

DATA = "data"
_VARIABLES = ("variables/variables.index", "variables/variables.data-*")


def data_files(view: View, kind: str) -> tuple[str, ...]:
    """What a whole file of `kind` reads beside it. A star at the end stands for any ending."""
    if kind == "saved_model":
        return _VARIABLES
    if kind == "onnx":
        try:
            return tuple(read_onnx(view.data).external_reach)
        except InputError:
            return ()
    return ()


def settle(reports: Sequence[FileReport]) -> tuple[FileReport, ...]:
    """The reports, in order, with the data of clean models among them called clean."""
    wanted = {
        posixpath.normpath(posixpath.join(posixpath.dirname(report.path), name))
        for report in reports
        if report.outcome is Outcome.CLEAN
        for name in report.reads
    }
    whole = {path for path in wanted if not path.endswith("*")}
    begun = tuple(path[:-1] for path in wanted if path.endswith("*"))
    return tuple(
        replace(report, format=DATA, outcome=Outcome.CLEAN, findings=())
        if _is_unknown(report)
        and (report.path in whole or (begun and report.path.startswith(begun)))
        else report
        for report in reports
    )


def _is_unknown(report: FileReport) -> bool:
    """Nothing is known of it, and nothing else was said of it."""
    return report.format == UNKNOWN and [item.rule for item in report.findings] == [
        "scan.not_evaluated"
    ]
