"""The scanner as a whole: every file gets a verdict, and reports say it in stable words."""

from __future__ import annotations

import json
import os
from pathlib import Path

import jsonschema
import pytest
from onnx import TensorProto, helper

from keepstone.core.digest import Digest
from keepstone.core.finding import Outcome
from keepstone.errors import InputError
from keepstone.scan import paths, scanner, view, walk
from keepstone.scan.artifact import scan_staged
from keepstone.scan.formats import identify
from keepstone.scan.paths import scan_paths
from keepstone.scan.report import ScanReport, to_json, to_sarif, to_text
from keepstone.scan.rules import RULES, SMELLS, finding, printable, verdict
from keepstone.scan.scanner import scan_file
from keepstone.vault.staging import Staged, stage
from tests.scan.judging import sarif_schema

ROOT = Path(__file__).parents[2]


def onnx_bytes(op: str = "Relu") -> bytes:
    def value(name: str) -> object:
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, 3])

    graph = helper.make_graph([helper.make_node(op, ["x"], ["y"])], "g", [value("x")], [value("y")])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    model.ir_version = 8
    return bytes(model.SerializeToString())


EVIL = b"cos\nsystem\n(S'true'\ntR."


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "folder"
    (root / "sub").mkdir(parents=True)
    (root / "a.onnx").write_bytes(onnx_bytes())
    (root / "b.txt").write_bytes(b"just text")
    (root / "sub" / "c.bin").write_bytes(EVIL)
    (root / "d.empty").write_bytes(b"")
    (root / "link").symlink_to("a.onnx")
    os.mkfifo(root / "pipe")
    return root


def test_every_file_of_a_folder_gets_a_verdict(folder: Path) -> None:
    seen: list[str] = []
    report = scan_paths([folder], seen.append)
    found = {Path(item.path).name: item.outcome for item in report.files}
    assert found == {
        "a.onnx": Outcome.CLEAN,
        "b.txt": Outcome.CLEAN,
        "c.bin": Outcome.FLAGGED,
        "d.empty": Outcome.NOT_EVALUATED,
        "link": Outcome.NOT_EVALUATED,
        "pipe": Outcome.NOT_EVALUATED,
    }
    assert report.outcome is Outcome.FLAGGED
    assert len(seen) == 6


def test_nothing_looked_at_is_not_clean(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    assert scan_paths([tmp_path / "empty"]).outcome is Outcome.NOT_EVALUATED
    assert scan_paths([]).outcome is Outcome.NOT_EVALUATED


def test_a_path_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    for path in (tmp_path / "missing", Path("a\x00b")):
        with pytest.raises(InputError) as caught:
            scan_paths([path])
        assert caught.value.code == "scan.missing"


def test_walking_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / "root" / "a" / "b" / "c"
    deep.mkdir(parents=True)
    for name in ("1", "2", "3"):
        (tmp_path / "root" / name).write_bytes(b"text")
    (deep / "file").write_bytes(EVIL)
    monkeypatch.setattr(walk, "MAX_DEPTH", 1)
    report = scan_paths([tmp_path / "root"])
    assert any("too deep" in item.message for item in report.findings)
    monkeypatch.setattr(paths, "MAX_FILES", 2)
    report = scan_paths([tmp_path / "root"])
    assert len(report.files) == 3
    assert "more than 2 files" in report.findings[-1].message


def test_a_folder_that_cannot_be_listed_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_: object) -> object:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(walk.os, "scandir", refuse)
    report = scan_paths([tmp_path])
    assert "Permission denied" in report.findings[0].message
    assert report.outcome is Outcome.NOT_EVALUATED


def test_a_file_that_cannot_be_opened_is_not_evaluated(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for name in ("pipe", "missing"):
        report = scan_file(tmp_path / name)
        assert (report.outcome, report.sha256) == (Outcome.NOT_EVALUATED, None)


def test_a_scanner_that_fails_has_not_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_: object) -> object:
        raise RecursionError

    monkeypatch.setattr(scanner, "SCANNERS", {"text": fail})
    (tmp_path / "file").write_bytes(b"text")
    report = scan_file(tmp_path / "file")
    assert report.outcome is Outcome.NOT_EVALUATED
    assert "RecursionError" in report.findings[0].message

    def refuse(_: object) -> object:
        raise InputError("x.y", "The reason.")

    monkeypatch.setattr(scanner, "SCANNERS", {"text": refuse})
    assert scan_file(tmp_path / "file").findings[0].message == "The reason."


def test_findings_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scanner, "MAX_FINDINGS", 2)
    monkeypatch.setattr(
        scanner,
        "SCANNERS",
        {"text": lambda v: (finding("pickle.import", "m", v.path) for _ in range(9))},
    )
    (tmp_path / "file").write_bytes(b"text")
    report = scan_file(tmp_path / "file")
    assert len(report.findings) == 3
    assert report.outcome is Outcome.FLAGGED


def test_large_files_are_mapped_and_watched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(view, "_IN_MEMORY", 10)
    path = tmp_path / "model"
    path.write_bytes(onnx_bytes())
    report = scan_file(path)
    assert (report.outcome, report.sha256) == (Outcome.CLEAN, Digest.of(onnx_bytes()))

    def change(_: object) -> list[object]:
        path.write_bytes(onnx_bytes() + b" ")
        return []

    monkeypatch.setattr(scanner, "SCANNERS", {"onnx": change})
    report = scan_file(path)
    assert report.outcome is Outcome.NOT_EVALUATED
    assert "changed" in report.findings[0].message


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", "empty"),
        (b"\x89HDF\r\n\x1a\nrest", "hdf5"),
        (bytes(512) + b"\x89HDF\r\n\x1a\n", "hdf5"),
        (b"GGUF\x03\x00\x00\x00", "gguf"),
        (b"\x1c\x00\x00\x00TFL3", "tflite"),
        (b"\x1c\x00\x00\x00ORTM", "ort"),
        (b"\x02\x00\x00\x00\x00\x00\x00\x00{}", "safetensors"),
        (b"\xff\x00\x00\x00\x00\x00\x00\x00{}", "safetensors"),
        (b"longtext{}", "text"),
        (b"7z\xbc\xaf\x27\x1c", "7z"),
        (bytes(257) + b"ustar", "tar"),
        (b"PK\x05\x06" + bytes(18), "zip"),
        (b"\x80\x05", "pickle"),
        (b"\x80\x06", "unknown"),
        (b"text", "text"),
        (b"\x78\x9c", "zlib"),
        (onnx_bytes(), "onnx"),
    ],
)
def test_formats_go_by_content(data: bytes, kind: str) -> None:
    assert identify(memoryview(data)) == kind


# What staging made ----------------------------------------------------------------------------


def test_a_staged_file_is_scanned(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(onnx_bytes())
    report = scan_staged(stage(tmp_path / "model", tmp_path / "staging"))
    assert (report.path, report.format, report.outcome) == (".", "onnx", Outcome.CLEAN)
    assert report.digest == scan_staged(stage(tmp_path / "model", tmp_path / "staging")).digest


def test_a_staged_folder_has_the_worst_of_its_verdicts(folder: Path, tmp_path: Path) -> None:
    for name in ("link", "pipe"):
        (folder / name).unlink()
    report = scan_staged(stage(folder, tmp_path / "staging"))
    assert (report.path, report.format, report.outcome) == (".", "folder", Outcome.FLAGGED)
    assert {item.location.path for item in report.findings} == {"d.empty", "sub/c.bin"}


def test_a_copy_that_changed_is_not_evaluated(tmp_path: Path) -> None:
    (tmp_path / "model").write_bytes(onnx_bytes())
    staged: Staged = stage(tmp_path / "model", tmp_path / "staging")
    staged.path.write_bytes(onnx_bytes("Sigmoid"))
    report = scan_staged(staged)
    assert report.outcome is Outcome.NOT_EVALUATED
    assert "no longer" in report.findings[0].message


# Reports --------------------------------------------------------------------------------------


def test_the_json_contract(folder: Path) -> None:
    document = json.loads(json.dumps(to_json(scan_paths([folder]))))
    assert document["schema"] == "keepstone.scan/v1"
    for file in document["files"]:
        assert set(file) == {"path", "sha256", "format", "verdict", "findings", "smells"}
        assert file["verdict"] in ("clean", "flagged", "not_evaluated")
        assert (file["verdict"] == "clean") == (file["findings"] == [])
        for item in file["findings"]:
            assert set(item) == {"rule", "severity", "message", "location"}
            assert set(item["location"]) == {"path", "offset", "member"}
            assert item["rule"] in RULES


def test_sarif_follows_its_schema(folder: Path) -> None:
    jsonschema.validate(to_sarif(scan_paths([folder])), sarif_schema())


def test_sarif_says_what_is_open(folder: Path) -> None:
    (run,) = to_sarif(scan_paths([folder]))["runs"]
    kinds = {result["ruleId"]: (result["kind"], result["level"]) for result in run["results"]}
    assert kinds["pickle.dangerous_import"] == ("fail", "error")
    assert kinds["scan.not_evaluated"] == ("open", "none")
    for result in run["results"]:
        assert run["tool"]["driver"]["rules"][result["ruleIndex"]]["id"] == result["ruleId"]
    verdicts = [artifact["properties"]["verdict"] for artifact in run["artifacts"]]
    assert sorted(set(verdicts)) == ["clean", "flagged", "not_evaluated"]


def test_the_text_names_every_file(folder: Path) -> None:
    text = to_text(scan_paths([folder]))
    assert "FLAGGED" in text
    assert "pickle.dangerous_import: Loading imports os.system: it runs commands." in text
    assert text.endswith("2 clean, 1 flagged, 3 not evaluated")
    assert "[member]" in to_text(ScanReport((member_report(),)))


def member_report() -> scanner.FileReport:
    item = finding("pickle.import", "It imports.", "a:b c", 3, "member")
    return scanner.FileReport("a:b c", None, 0, "zip", Outcome.FLAGGED, (item,))


def test_odd_paths_are_uris() -> None:
    (run,) = to_sarif(ScanReport((member_report(),)))["runs"]
    assert run["artifacts"][0]["location"]["uri"] == "./a%3Ab%20c"
    (location,) = run["results"][0]["locations"]
    assert location["physicalLocation"]["region"] == {"byteOffset": 3, "byteLength": 0}
    assert location["logicalLocations"][0]["name"] == "member"


# Rules ----------------------------------------------------------------------------------------


def test_docs_and_code_name_the_same_rules() -> None:
    rows = {}
    for line in (ROOT / "docs" / "rules.md").read_text().splitlines():
        if line.startswith("| `"):
            rule, severity, outcome, meaning = (cell.strip() for cell in line.strip("|").split("|"))
            rows[rule.strip("`")] = (severity, outcome, meaning)
    assert rows == {
        rule.id: (str(rule.severity), str(rule.outcome).replace("_", " "), rule.meaning)
        for rule in RULES.values()
    } | {smell.id: ("info", "none", smell.meaning) for smell in SMELLS.values()}


def test_no_limit_or_unknown_reads_as_clean() -> None:
    assert Outcome.CLEAN not in {rule.outcome for rule in RULES.values()}
    assert verdict([]) is Outcome.CLEAN
    assert verdict([finding("scan.not_evaluated", "m", "p")]) is Outcome.NOT_EVALUATED


def test_printable_is_short_and_quiet() -> None:
    assert printable("a\x1b\n\u202eb") == "a???b"
    assert printable("x" * 200, 10) == "x" * 10 + "..."


def test_a_contract_is_clean_where_it_is_one(tmp_path: Path) -> None:
    ends = {"datatype": "FP32", "shape": [-1, 3]}
    said = {
        "schema": "keepstone.contract/v1",
        "inputs": [{"name": "x", **ends}],
        "outputs": [{"name": "y", **ends}],
    }
    path = tmp_path / "any-name"
    for text, outcome in (
        (json.dumps(said), Outcome.CLEAN),
        (json.dumps(said | {"more": 1}), Outcome.NOT_EVALUATED),
        (json.dumps(said)[:-1], Outcome.NOT_EVALUATED),
        (json.dumps(said) + "cos\nsystem\n.", Outcome.NOT_EVALUATED),
    ):
        path.write_text(text)
        report = scan_file(path)
        assert (report.format, report.outcome) == ("contract", outcome)
