"""The report for people of every kind of attack, with others' results below its own."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import click

from keepstone.cli.attacking import FILE
from keepstone.cli.options import read_option_file
from keepstone.cli.output import say

if TYPE_CHECKING:
    from keepstone.core.digest import Digest
    from keepstone.lab.report.documents import Document

F = TypeVar("F", bound=Callable[..., object])


def report_options(function: F) -> F:
    """Where the report goes, and what else stands in it."""
    for option in (
        click.option(
            "--with",
            "others",
            multiple=True,
            type=FILE,
            help="With --report: the JSON of an extraction or membership audit of the same model,"
            " shown in the same report. May be given again.",
        ),
        click.option(
            "--force",
            is_flag=True,
            help="With --report: write over a file that is there already.",
        ),
        click.option("--report", type=FILE, help="Write the report for people to this HTML file."),
    ):
        function = option(function)
    return function


def others_given(given: dict[str, Any]) -> list[Document]:
    """What `--with` names, read before anything is spent.

    Raises a usage error without `--report`; InputError `report.bad_document`, `json.*`, `file.*`.
    """
    if given["others"] and given["report"] is None:
        raise click.UsageError("--with goes with --report.")
    if not given["others"]:
        return []
    from keepstone.lab.report.documents import MAX_FILE, read_document

    return [read_document(read_option_file(path, MAX_FILE)) for path in given["others"]]


def of_same_model(others: list[Document], model: Digest | None) -> list[Document]:
    """Raises InputError `report.other_model`."""
    if not others:
        return []
    from keepstone.lab.report.documents import same_model

    return [same_model(one, model) for one in others]


def write_curves_report(
    document: dict[str, Any], others: list[Document], given: dict[str, Any]
) -> None:
    """The report of one extraction or membership audit, and of the others below it."""
    from keepstone import __version__
    from keepstone.lab.report.curves import write_curves
    from keepstone.lab.report.documents import read_found

    about = {"by": f"keepstone {__version__}"}
    write_report(write_curves([read_found(document), *others], about), given)


def write_report(page: bytes, given: dict[str, Any]) -> None:
    from keepstone.files import write_place

    path: Path = given["report"]
    write_place(path, page, 0o600, replace=given["force"])
    say(f"report  {path}", mark="ok")
