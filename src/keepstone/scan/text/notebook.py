"""Notebooks: cells are code that runs, outputs are pages that are shown.

A notebook is clean whose cells hold nothing but ordinary code (`text/ordinary.py`): nothing runs
it by itself. One with other code is *not evaluated*: code is not judged. Flagged is what no honest
notebook does: a shell that runs what it fetches, code that hides what it calls, a process, a
script in an output that runs as soon as the notebook is opened. Source: nbformat 4; nbformat 3
keeps its cells in worksheets.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from keepstone.core.finding import Finding
from keepstone.scan.rules import printable
from keepstone.scan.text.config import leads_out
from keepstone.scan.text.ordinary import is_ordinary
from keepstone.scan.text.payload import attack_in
from keepstone.scan.text.shell import shell_problem
from keepstone.scan.text.source import parse_source, source_findings
from keepstone.scan.text.words import words
from keepstone.scan.view import View

# `files = !ls` and `!ls`; `%system ls`, `%sx ls`.
_ESCAPE = re.compile(r"^\s*(?:[A-Za-z_][\w, ]*=\s*)?(?:!!?|%(?:system|sx)\s+)(.*)$")
_CELL_SHELLS = re.compile(r"^\s*%%(?:!|bash|sh|script|system|sx|cmd|perl|ruby|powershell)\b(.*)$")
_CELL_PLAIN = re.compile(r"^\s*%%(?:markdown|latex|html|svg|javascript|js|writefile|file)\b")
_CELL_SHOWN = re.compile(r"^\s*%%(?:markdown|latex|svg)\b")
_ACTIVE = ("text/html", "application/javascript", "image/svg+xml", "html", "javascript")
_MAGIC = re.compile(r"^\s*%+\w")
# Words of magic that draw, measure or show.
_PLAIN_MAGIC = frozenset(
    words(
        """
    matplotlib pylab config precision autoreload time timeit prun memit mprun who whos who_ls
    capture tensorboard pdoc pinfo page doctest_mode colors xmode env pwd
    """
    )
)
# `!{command}` runs what Python made.
_HELP = re.compile(r"^\s*[\w.]+\?{1,2}\s*$|^\s*\?{1,2}[\w.]+\s*$")
_SCRIPT = re.compile(
    r"<\s*(?:script|object|embed|meta[^>]{1,200}refresh|link[^>]{1,200}import)\b|\bjavascript:"
    r"|<\w[^>]{0,300}\son\w+\s*=",
    re.IGNORECASE,
)
# A page that reaches other machines or the notebook's own kernel, rather than drawing a plot.
_REACH = re.compile(
    r"fetch\s*\(|XMLHttpRequest|sendBeacon|WebSocket\s*\(|kernel\s*\.\s*execute|document\.cookie"
    r"|localStorage|eval\s*\(|Function\s*\(|atob\s*\(|window\.location|src\s*=\s*[\"']?https?://"
    r"|IPython\.notebook",
    re.IGNORECASE,
)
# Libraries that draw, whose pages load themselves from here in honest notebooks.
_DRAWING = re.compile(
    r"plotly|bokeh|vega|altair|requirejs|require\.config|mathjax|ipywidgets|leaflet|d3\."
    r"|pyvis|shap|google\.colab|colab-df|echarts|highcharts|holoviews|tensorboard|mpld3",
    re.IGNORECASE,
)


def is_notebook(value: Any) -> bool:
    """True where a JSON value is a notebook to Jupyter."""
    if not isinstance(value, Mapping):
        return False
    cells = value.get("cells", value.get("worksheets"))
    return isinstance(cells, list) and ("nbformat" in value or _has_cell(cells))


def _has_cell(cells: list[Any]) -> bool:
    return any(isinstance(cell, Mapping) and "cell_type" in cell for cell in cells)


def notebook_findings(view: View, value: Mapping[str, Any]) -> Iterator[Finding]:
    """Judge every cell and every output."""
    sources: list[str] = []
    for number, cell in enumerate(_cells(value), 1):
        inside = f"cell {number}"
        if not isinstance(cell, Mapping):
            yield view.unseen("The notebook has a cell that is none.", inside)
            continue
        text = _text(cell.get("source", cell.get("input", "")))
        kind = cell.get("cell_type")
        if kind == "code":
            yield from _code_cell(view, text, inside, sources)
        elif _SCRIPT.search(text):
            # Jupyter cleans what it shows of Markdown; other readers do not.
            yield view.finding("notebook.active_output", "Its text holds script.", None, inside)
        outputs = cell.get("outputs")
        for output in outputs if isinstance(outputs, list) else []:
            yield from _output(view, output, inside)
    tree = parse_source("\n".join(sources))
    if tree is None or not is_ordinary(tree):
        reason = "The notebook holds code that is more than ordinary, which is not judged."
        yield view.finding("code.not_judged", reason)


def _cells(value: Mapping[str, Any]) -> Iterator[Any]:
    cells = value.get("cells")
    if isinstance(cells, list):
        yield from cells
    sheets = value.get("worksheets")
    for sheet in sheets if isinstance(sheets, list) else []:
        if isinstance(sheet, Mapping) and isinstance(sheet.get("cells"), list):
            yield from sheet["cells"]


def _text(value: Any) -> str:
    return "".join(str(line) for line in value) if isinstance(value, list) else str(value)


def _code_cell(view: View, text: str, inside: str, sources: list[str]) -> Iterator[Finding]:
    """Judge a cell; what of it is Python goes to `sources`, for a look at all of it together."""
    first = next((line for line in text.splitlines() if line.strip()), "")
    if match := _CELL_SHELLS.match(first):
        yield from _shell(view, text.split(first, 1)[1] or match.group(1), inside)
        return
    if _CELL_PLAIN.match(first):
        if attack := attack_in(text):
            reason = f"The cell says {printable(attack, 60)}."
            yield view.finding("notebook.shell_attack", reason, None, inside)
        elif not _CELL_SHOWN.match(first):
            reason = "The cell writes a file or runs in a page, which is not judged."
            yield view.finding("code.not_judged", reason, None, inside)
        return
    plain, command = [], ""
    for line in text.splitlines():
        if command:
            command += "\n" + line
        elif match := _ESCAPE.match(line):
            command = match.group(1)
        if command and not line.rstrip().endswith("\\"):
            yield from _shell(view, command, inside)
            plain.append(_blank(line))
            command = ""
        elif command or _MAGIC.match(line) or _HELP.match(line):
            # Magic words run as they are named: `%run`, `%pip`, `%load_ext`.
            if not command:
                yield from _magic(view, line.strip().lstrip("%"), inside)
            plain.append(_blank(line))
        else:
            plain.append(line)
    if command:
        yield from _shell(view, command, inside)
    sources.append("\n".join(plain))
    yield from source_findings(view, sources[-1], inside)


def _blank(line: str) -> str:
    """A line of the shell as Python that does nothing, so that what is around it still parses."""
    return line[: len(line) - len(line.lstrip())] + "pass"


def _shell(view: View, command: str, inside: str) -> Iterator[Finding]:
    why = shell_problem(command)
    shown = printable(" ".join(command.split()), 80)
    if why is not None:
        reason = f"The cell runs a shell, and {printable(why, 60)}: {shown}."
        yield view.finding("notebook.shell_attack", reason, None, inside)
    else:
        yield view.finding("notebook.shell", f"The cell runs a shell: {shown}.", None, inside)


def _magic(view: View, line: str, inside: str) -> Iterator[Finding]:
    name, _, rest = line.partition(" ")
    if name in ("pip", "conda", "mamba", "uv"):
        yield from _shell(view, f"{name} {rest}", inside)
    elif name in ("run", "load", "loadpy", "macro") and ("://" in rest or leads_out(rest)):
        reason = f"The cell runs what lies elsewhere: {printable(rest, 60)}."
        yield view.finding("notebook.shell_attack", reason, None, inside)
    elif name in ("time", "timeit", "prun", "memit", "mprun"):
        yield from source_findings(view, rest, inside)
    elif attack := attack_in(line):
        reason = f"The cell says {printable(attack, 60)}."
        yield view.finding("notebook.shell_attack", reason, None, inside)
    elif name not in _PLAIN_MAGIC and "?" not in (line[:1], line[-1:]):
        shown = printable(line, 60)
        yield view.finding(
            "code.not_judged", f"The cell has a word of magic: {shown}.", None, inside
        )


def _output(view: View, output: Any, inside: str) -> Iterator[Finding]:
    """What is shown without anybody running the cell again."""
    data = output.get("data", output) if isinstance(output, Mapping) else None
    for kind, value in data.items() if isinstance(data, Mapping) else ():
        if kind not in _ACTIVE:
            continue
        text = _text(value)
        script = "javascript" in kind or _SCRIPT.search(text) or "<iframe" in text
        if script and _REACH.search(text) and not _DRAWING.search(text):
            reason = f"An output of the kind {kind} holds script."
            yield view.finding("notebook.active_output", reason, None, inside)
