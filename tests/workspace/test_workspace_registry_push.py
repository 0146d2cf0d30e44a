"""A model becomes a version: every step of a push, what each refuses, and what is left behind."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from keepstone.identity.principal import Principal, PrincipalKind
from keepstone.workspace.intake import Submission
from keepstone.workspace.registry.registry import Push, Registry
from tests.workspace.observers import Silent

LOCAL = Principal("local:root", PrincipalKind.LOCAL, frozenset(), "local", "none")


def test_smoke(home: Any, tmp_path: Path) -> None:
    with home.open() as workspace:
        registry = Registry(workspace)
        pushed = registry.push(LOCAL, Push(Submission.of(home.model(), name="scale")), Silent())
        assert pushed.version.exact == "scale@1"
        again = registry.push(LOCAL, Push(Submission.of(home.model(), name="scale")), Silent())
        assert again.known
        two = registry.push(
            LOCAL, Push(Submission.of(home.model("b.onnx", 3.0), name="scale")), Silent()
        )
        assert two.version.number == 2
        print(registry.list(LOCAL))
        print(registry.show(LOCAL, "scale@1"))
        print(registry.alias(LOCAL, "scale@1", "best"))
        print(registry.promote(LOCAL, "scale@2", "production"))
        print(registry.diff(LOCAL, "scale@best", "scale@production"))
        pulled = registry.pull(LOCAL, "scale@best")
        target = tmp_path / "out.onnx"
        registry.write_out(pulled.release, target)
        assert target.read_bytes() == home.model().read_bytes()
    for entry in home.entries():
        if entry["kind"] != "statement":
            print(entry)
