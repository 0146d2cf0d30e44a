"""`keepstone scan deps`: exit statuses and outputs, and that nobody's silence reads as clean."""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from keepstone.cli.main import run
from tests.scan.osv_records import HIGH, before, record, write_folder

Result = tuple[int, str, str]


class Project:
    """A folder with requirements and a database, and the command run on it."""

    def __init__(self, root: Path, capsys: pytest.CaptureFixture[str]) -> None:
        self.root, self._capsys = root, capsys
        self.osv = root / "osv"
        now = datetime.fromtimestamp(time.time(), UTC).isoformat()
        write_folder(
            self.osv,
            [
                record("CVE-1", before("2.0"), severity=_v3(HIGH), modified=now),
                record("CVE-2", before("2.0", "grave"), modified=now),
            ],
        )

    def requires(self, *lines: str) -> Path:
        path = self.root / "app" / "requirements.txt"
        path.parent.mkdir(exist_ok=True)
        path.write_text("".join(f"{line}\n" for line in lines))
        return path.parent

    def __call__(self, *arguments: object) -> Result:
        self._capsys.readouterr()
        status = run(["scan", "deps", *map(str, arguments)])
        said = self._capsys.readouterr()
        return status, said.out, said.err

    def json(self, *arguments: object) -> tuple[int, Any]:
        status, out, _ = self(*arguments, "--format", "json")
        return status, json.loads(out)


def _v3(vector: str) -> list[dict[str, str]]:
    return [{"type": "CVSS_V3", "score": vector}]


@pytest.fixture
def project(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Project:
    return Project(tmp_path, capsys)


@pytest.mark.parametrize("style", ["text", "json", "sarif"])
@pytest.mark.parametrize(
    ("lines", "options", "status"),
    [
        (["thing==2.0"], [], 0),
        (["thing==1.0"], [], 1),
        (["thing==1.0", "loose>=1"], [], 1),
        (["thing==2.0", "loose>=1"], [], 3),
        ([], [], 3),
        (["thing==1.0"], ["--fail-on", "high"], 1),
        (["thing==1.0"], ["--fail-on", "critical"], 0),
        (["grave==1.0"], ["--fail-on", "critical"], 1),
    ],
)
def test_the_status_says_what_was_found_in_every_format(
    project: Project, lines: list[str], options: list[str], status: int, style: str
) -> None:
    app = project.requires(*lines)
    given, out, _ = project(app, "--osv", project.osv, *options, "--format", style)
    assert given == status
    assert out


def test_no_database_is_not_evaluated_by_name(project: Project) -> None:
    app = project.requires("thing==2.0", "other==1")
    status, document = project.json(app)
    assert (status, document["verdict"], document["database"]) == (3, "not_evaluated", None)
    assert {item["name"] for item in document["not_evaluated"]} == {"thing 2.0", "other 1"}
    status, out, _ = project(app)
    assert status == 3
    assert "not evaluated: No database of vulnerabilities was given." in out
    assert "thing 2.0" in out
    assert not out.rstrip().endswith("clean")


def test_a_package_that_cannot_be_looked_up_is_told_where_pip_audit_passes_it_over(
    project: Project,
) -> None:
    # pip-audit prints "No known vulnerabilities found" and exits with 0 for these.
    app = project.requires("thing==2.0", "mine @ https://example.invalid/mine-1.whl", "loose")
    status, out, _ = project(app, "--osv", project.osv)
    assert status == 3
    assert "mine (" in out
    assert "loose (" in out


def test_an_old_database_is_refused_with_its_age(project: Project) -> None:
    for path in project.osv.iterdir():
        document = json.loads(path.read_text()) | {"modified": "2024-01-01T00:00:00Z"}
        path.write_text(json.dumps(document))
    app = project.requires("thing==2.0")
    assert project(app, "--osv", project.osv)[0] == 3
    assert project(app, "--osv", project.osv, "--max-age", "99999d")[0] == 0
    _, document = project.json(app, "--osv", project.osv)
    assert document["database"]["newest"] == "2024-01-01T00:00:00.000Z"
    assert document["database"]["age_days"] > 365
    assert "days ago: too old" in document["not_evaluated"][0]["reason"]


def test_an_environment_is_judged_by_what_is_installed(project: Project) -> None:
    site = project.root / "venv/lib/python3.11/site-packages"
    info = site / "thing-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Name: thing\nVersion: 1.0\n")
    (project.root / "venv/requirements.txt").write_text("loose\n")
    for place in (project.root / "venv", site):
        status, document = project.json("--environment", place, "--osv", project.osv)
        assert (status, len(document["packages"])) == (1, 1)
        assert document["vulnerabilities"][0]["paths"] == [str(info / "METADATA")]
        assert document["not_evaluated"] == []
    status, document = project.json("--osv", project.osv, "--environment")
    assert "pytest" in {item["name"] for item in document["packages"]}


@pytest.mark.parametrize(
    ("arguments", "status", "code"),
    [
        ([], 2, ""),
        (["gone"], 2, "scan.missing"),
        (["--environment", "gone"], 2, "scan.missing"),
        (["app", "--osv", "gone"], 2, "osv.missing"),
        (["app/notes.txt"], 2, "deps.unknown_list"),
        (["app", "--fail-on", "grave"], 2, ""),
    ],
)
def test_what_cannot_be_used_is_refused(
    project: Project,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    status: int,
    code: str,
) -> None:
    (project.requires("thing==1") / "notes.txt").write_text("")
    monkeypatch.chdir(project.root)
    given, out, error = project(*arguments)
    assert (given, out) == (status, "")
    assert f"error[{code}]" in error or not code


def test_hostile_names_do_not_reach_the_terminal(project: Project) -> None:
    now = datetime.fromtimestamp(time.time(), UTC).isoformat()
    summary = {"summary": "\x1b[2Jall is well\x07", "modified": now}
    hostile = record("CVE-\x07\x1b[31m", before("2.0", "thing"), **summary)
    write_folder(project.osv, [hostile | {"affected": [{**before("2"), "versions": ["1"]}]}])
    app = project.requires("thing==1")
    (app / "requirements-\x1b[2J.txt").write_text("thing==1\n\x1b]0;x\n")
    status, out, _ = project(app, "--osv", project.osv)
    assert status == 1
    assert all(c.isprintable() for c in out.replace("\n", ""))
