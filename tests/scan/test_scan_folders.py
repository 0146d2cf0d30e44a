"""Folders: what one file names another by, on a disk, in staging and in archives."""

from __future__ import annotations

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from keepstone.core.finding import Outcome
from keepstone.scan import together
from keepstone.scan.artifact import scan_contents, scan_staged
from keepstone.scan.paths import scan_paths
from keepstone.scan.report import ScanReport
from keepstone.vault.staging import stage
from tests.scan.judging import outcome_of, rules_of

MLMODEL = (
    "flavors:\n  python_function:\n    env:\n      conda: conda.yaml\n"
    "    loader_module: mlflow.xgboost\n    data: model.json\n"
)
CODE = MLMODEL.replace("mlflow.xgboost", "my_loader") + "    code: code\n"
MANIFEST = {
    "runtime": "python",
    "model": {
        "modelName": "m",
        "handler": "handler.py",
        "serializedFile": "model.json",
        "modelVersion": "1.0",
    },
    "archiverVersion": "0.12.0",
}
HANDLER = (
    "import torch\nclass Handler:\n    def handle(self, data, context):\n        return data\n"
)
NEMO = "target: nemo.collections.asr.models.EncDecCTCModel\ntokenizer:\n  dir: nemo:a_vocab.txt\n"
INDEX = {"metadata": {}, "weight_map": {"a": "model-1.safetensors"}}
DATA = '{"a": 1}'

# Files by their names, and the rules that only the whole of them shows.
FOLDERS: dict[str, tuple[dict[str, str], set[str]]] = {
    "mlflow": ({"MLmodel": MLMODEL, "conda.yaml": "name: a\n", "model.json": DATA}, set()),
    "mlflow missing": ({"MLmodel": MLMODEL, "conda.yaml": "name: a\n"}, {"folder.missing"}),
    "mlflow code": (
        {
            "MLmodel": CODE,
            "conda.yaml": "name: a\n",
            "model.json": DATA,
            "code/my_loader.py": HANDLER,
        },
        {"folder.code"},
    ),
    "mlflow shadow": (
        {
            "MLmodel": CODE,
            "conda.yaml": "name: a\n",
            "model.json": DATA,
            "code/xgboost/__init__.py": HANDLER,
            "code/subprocess.py": HANDLER,
        },
        {"folder.shadow"},
    ),
    "torchserve": (
        {
            "MAR-INF/MANIFEST.json": json.dumps(MANIFEST).replace("handler.py", "text_classifier"),
            "model.json": DATA,
        },
        set(),
    ),
    "torchserve handler": (
        {
            "MAR-INF/MANIFEST.json": json.dumps(MANIFEST),
            "model.json": DATA,
            "handler.py": HANDLER,
        },
        {"folder.code"},
    ),
    "torchserve missing": (
        {"MAR-INF/MANIFEST.json": json.dumps(MANIFEST), "a.json": DATA},
        {"folder.missing"},
    ),
    "torchserve path": (
        {
            "MAR-INF/MANIFEST.json": json.dumps(MANIFEST).replace("model.json", "../../m.json"),
            "handler.py": HANDLER,
        },
        {"config.path", "folder.code"},
    ),
    "torchserve shadow": (
        {
            "MAR-INF/MANIFEST.json": json.dumps(MANIFEST),
            "model.json": DATA,
            "handler.py": HANDLER,
            "torchvision.py": HANDLER,
        },
        {"folder.code", "folder.shadow"},
    ),
    "nemo": ({"model_config.yaml": NEMO, "a_vocab.txt": "a\nb\n"}, set()),
    "nemo missing": ({"model_config.yaml": NEMO, "b": DATA}, {"folder.missing"}),
    "nemo path": (
        {"model_config.yaml": NEMO.replace("a_vocab", "../../a_vocab"), "b": DATA},
        {"config.path"},
    ),
    "hub": (
        {"config.json": DATA, "model.safetensors.index.json": json.dumps(INDEX)},
        {"folder.missing"},
    ),
    "hub generate": (
        {"config.json": DATA, "custom_generate/generate.py": HANDLER},
        {"folder.remote_code"},
    ),
    "hub handler": ({"config.json": DATA, "handler.py": HANDLER}, {"folder.remote_code"}),
    "python at start": ({"a.json": DATA, "sitecustomize.py": HANDLER}, {"folder.runs_at_start"}),
    "python shadow": ({"a.json": DATA, "torch.py": HANDLER}, {"folder.shadow"}),
    "python package": ({"p/__init__.py": "A = 1\n", "p/io.py": HANDLER}, set()),
}


def whole(found: set[str]) -> set[str]:
    return {rule for rule in found if rule.startswith("folder.") or rule == "config.path"}


def rules(report: ScanReport) -> set[str]:
    return whole({item.rule for item in report.findings})


def written(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def zipped(files: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in files.items():
            archive.writestr(name, text)
    return out.getvalue()


def tarred(files: dict[str, str], start: str = "./") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(f"{start}{name}")
            info.size = len(text.encode())
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


@pytest.mark.parametrize("kind", FOLDERS)
def test_a_folder_shows_what_no_file_does(kind: str, tmp_path: Path) -> None:
    files, wanted = FOLDERS[kind]
    root = written(tmp_path / "model", files)
    report = scan_paths([root])
    assert rules(report) == wanted
    assert {item.location.path for item in report.findings} <= {item.path for item in report.files}
    if not any(name.endswith(".py") for name in files):
        assert (report.outcome is Outcome.CLEAN) == (wanted == set())


@pytest.mark.parametrize("kind", FOLDERS)
def test_staging_and_memory_show_the_same(kind: str, tmp_path: Path) -> None:
    files, wanted = FOLDERS[kind]
    staged = stage(written(tmp_path / "model", files), tmp_path / "staging")
    report = scan_staged(staged)
    assert whole({item.rule for item in report.findings}) == wanted
    contents = {name: text.encode() for name, text in files.items()}
    assert rules(scan_contents(contents, "vault:m@0")) == wanted


@pytest.mark.parametrize("kind", FOLDERS)
def test_archives_show_the_same(kind: str) -> None:
    files, wanted = FOLDERS[kind]
    assert whole(rules_of(zipped(files))) == wanted
    assert whole(rules_of(tarred(files))) == wanted
    assert whole(rules_of(tarred(files, "top/"))) == wanted


def test_a_clean_archive_of_text_is_clean() -> None:
    assert outcome_of(tarred(FOLDERS["nemo"][0])) is Outcome.CLEAN


def test_a_file_that_changed_after_it_was_judged_names_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = written(tmp_path / "model", FOLDERS["mlflow missing"][0])
    before = together.judge_folder

    def later(files: object) -> object:
        (root / "MLmodel").write_text("flavors: {}\n")
        return before(files)  # type: ignore[arg-type]

    monkeypatch.setattr(together, "judge_folder", later)
    assert rules(scan_paths([root])) == set()


def test_processes_find_what_one_does(tmp_path: Path) -> None:
    files = {f"{number}.json": DATA for number in range(40)}
    files["x.json"] = '{"_target_": "os.system"}'
    root = written(tmp_path / "model", files)
    seen: list[str] = []
    assert scan_paths([root], seen.append, workers=2) == scan_paths([root])
    assert len(seen) == 41


def test_what_is_excluded_is_left_out(tmp_path: Path) -> None:
    files = {"a.json": DATA, "skip/x.py": HANDLER, "b.py": HANDLER}
    root = written(tmp_path / "model", files)
    report = scan_paths([root], exclude=("skip", "*.py"))
    assert [Path(item.path).name for item in report.files] == ["a.json"]
