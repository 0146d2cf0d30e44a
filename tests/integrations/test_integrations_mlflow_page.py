"""docs/mlflow.md is run: every command in order, in one shell, against a real server."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import signal
import socket
import subprocess
from pathlib import Path

import pytest

from bench.environment import ROOT
from bench.mlflow_server import mlflow_python
from tools.readme import examples

pytestmark = [pytest.mark.slow, pytest.mark.loopback]

PAGE = ROOT / "docs" / "mlflow.md"
_PROGRAM = re.compile(r"^```python\n# (\w+\.py)\n(.*?)^```", re.MULTILINE | re.DOTALL)
_REFUSED = re.compile(r"\s+# refused: ([a-z_.]+)$")
_SERVER = """
if [ -n "${{SERVER:-}}" ]; then kill "$SERVER"; wait "$SERVER" || true; fi
{command} > server.log 2>&1 &
SERVER=$!
for _ in $(seq 300); do
  curl -sf http://127.0.0.1:{port}/health > /dev/null && break
  kill -0 "$SERVER" || {{ cat server.log; exit 9; }}
  sleep 0.2
done
"""


def script(port: int) -> str:
    """The page's commands as one program: each must end as the page says."""
    lines = ["set -eu"]
    for example in examples("mlflow.md", PAGE.read_text("utf-8")):
        command = example.command.replace("5000", str(port))
        refused = _REFUSED.search(command)
        lines.append(f"echo {shlex.quote('$ ' + command)}")
        if command.startswith("pip install"):
            continue
        if " mlflow server " in f" {command} ":
            lines.append(_SERVER.format(command=command, port=port))
        elif refused:
            plain = _REFUSED.sub("", command)
            lines.append(f"if {plain} > said.txt 2>&1; then echo NOT REFUSED; exit 8; fi")
            lines.append(
                f"grep -q -F {shlex.quote(refused[1])} said.txt || {{ cat said.txt; exit 7; }}"
            )
        else:
            lines.append(command)
    return "\n".join([*lines, 'kill "$SERVER"', "echo THE END"])


def test_the_page_takes_a_team_from_nothing_to_guarded(tmp_path: Path) -> None:
    text = PAGE.read_text("utf-8")
    programs = dict(_PROGRAM.findall(text))
    assert set(programs) == {"train.py", "score.py", "attack.py", "promote.py"}
    for name, body in programs.items():
        (tmp_path / name).write_text(body)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    environment = {
        "PATH": f"{mlflow_python().parent}:{os.environ['PATH']}",
        "HOME": str(tmp_path),
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
    }
    process = subprocess.Popen(
        ["bash", "-c", script(port)],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        said, _ = process.communicate(timeout=400)
    finally:
        # The shell's own group, with the servers that it started.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 0, said[-6000:]
    answered = re.findall(r"^\[ *(\w+) +(\w+)\]$", said, re.MULTILINE)
    # Only the attacked model, under no guard, answered wrongly.
    assert answered.count(("False", "True")) == 1
    assert set(answered) == {("True", "False"), ("False", "True")}
