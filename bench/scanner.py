"""Model-file scanners on one corpus: what each flags, what gets past it, and how fast it is.

The corpus is made by `bench.corpus`, and what is malicious in it is proven by loading where the
loader is here. A scanner's verdict is what its own command would say (see `scanner_peer.py`): a
proven file with the status of a clean one got past. `python -m bench.scanner` prints the table by
family, and the files that Keepstone misses.
"""

from __future__ import annotations

import hashlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest import mock

from bench.corpus.families.safetensors_files import framed
from bench.corpus.opcodes import EMPTY_DICT, call, name, number, pickled, several, text
from bench.corpus.truth import NOISY, PROVEN
from bench.environment import ROOT, python_of

PEERS = ("picklescan", "picklescan-strict", "modelscan", "fickling", "modelaudit")
OURS = "keepstone"
FLAGGED, CLEAN = "flagged", "clean"
CORPUS = ROOT / "build" / "corpus"
BIG = 500 * 1000 * 1000
# A scanner that takes seconds for a file is asked about one in so many of each family; whoever
# stands beside it in a row is then held to the same files.
ONE_IN = {"modelaudit": 8}
ROUNDS = 5
SMALL = 100_000

Verdicts = dict[str, str]
Files = list[dict[str, Any]]


def corpus() -> tuple[Path, Files]:
    """The corpus in build/, made anew when its program changed, with each file's truth."""
    sources = sorted((ROOT / "bench" / "corpus").rglob("*.py"))
    wanted = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    stamp = CORPUS / "stamp"
    if not stamp.exists() or stamp.read_text("ascii") != wanted:
        subprocess.run(["rm", "-rf", str(CORPUS)], check=True)
        for module in ("bench.corpus", "bench.corpus.truth"):
            print(f"running {module}", file=sys.stderr)
            subprocess.run(
                [sys.executable, "-m", module, str(CORPUS)],
                check=module == "bench.corpus",
                cwd=ROOT,
                stdout=subprocess.DEVNULL,
            )
        stamp.write_text(wanted, "ascii")
    files: Files = json.loads((CORPUS / "manifest.json").read_text("utf-8"))["files"]
    truth = json.loads((CORPUS / "truth.json").read_text("utf-8"))
    for file in files:
        file["truth"] = truth[file["path"]]["truth"]
    # What does not open as its maker says is nobody's false alarm.
    return CORPUS, [file for file in files if file["truth"] != NOISY]


def ask(scanner: str, paths: list[Path], *options: str) -> list[dict[str, Any]]:
    """What `scanner` says to each of `paths`, in its own environment."""
    plain = scanner.removesuffix("-strict")
    python = sys.executable if scanner == OURS else str(python_of(plain))
    quiet = {"PROMPTFOO_DISABLE_TELEMETRY": "1", "NO_ANALYTICS": "1", "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [python, str(Path(__file__).with_name("scanner_peer.py")), scanner, *options],
        input="".join(f"{path}\n" for path in paths),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
        env={**os.environ, **quiet},
    )
    answers: list[dict[str, Any]] = [json.loads(line) for line in done.stdout.splitlines()]
    if [answer["path"] for answer in answers] != [str(path) for path in paths]:
        raise RuntimeError(f"{scanner} did not answer for every file")
    return answers


def sampled(scanner: str, files: Files) -> Files:
    """The files that `scanner` is asked about: every one, or one in so many of each family."""
    step = ONE_IN.get(scanner, 1)
    seen: Counter[tuple[str, bool]] = Counter()
    found = []
    for file in files:
        key = file["family"], file["malicious"]
        if seen[key] % step == 0:
            found.append(file)
        seen[key] += 1
    return found


def judge(scanner: str, folder: Path, files: Files) -> Verdicts:
    """The scanner's verdict on every file that it is asked about, by its path in the corpus."""
    files = sampled(scanner, files)
    print(f"asking {scanner}", file=sys.stderr)
    if scanner != OURS:
        python_of(scanner.removesuffix("-strict"))
    # One benign file of each family loads what the scanner loads when it is needed.
    first = {file["family"]: str(folder / file["path"]) for file in files if not file["malicious"]}
    cores = len(os.sched_getaffinity(0))
    shares = [files[core::cores] for core in range(cores)]

    def share(part: Files) -> Verdicts:
        answers = ask(scanner, [folder / file["path"] for file in part], "--warm", *first.values())
        return {
            file["path"]: str(answer["verdict"]) for file, answer in zip(part, answers, strict=True)
        }

    with ThreadPoolExecutor(cores) as pool:
        return {path: word for found in pool.map(share, shares) for path, word in found.items()}


def counts(files: Files, verdicts: Verdicts) -> Counter[str]:
    """How many are malicious, benign and proven, and of each how many went wrong."""
    found: Counter[str] = Counter()
    for file in files:
        if file["path"] not in verdicts:
            continue
        verdict, proven = verdicts[file["path"]], file["truth"] == PROVEN
        found["malicious"] += file["malicious"]
        found["benign"] += not file["malicious"]
        found["proven"] += proven
        found["flagged"] += file["malicious"] and verdict == FLAGGED
        found["silent"] += proven and verdict == CLEAN
        found["silent all"] += file["malicious"] and verdict == CLEAN
        found["alarms"] += not file["malicious"] and verdict == FLAGGED
        found["not clean"] += not file["malicious"] and verdict != CLEAN
    return found


def table(files: Files, verdicts: dict[str, Verdicts]) -> str:
    """A line for each family: flagged / silently passed / benign not clean, for every scanner."""
    lines = [("family", "malicious", "proven", "benign", *verdicts)]
    families = list(dict.fromkeys(file["family"] for file in files))
    for family in [*families, "all"]:
        part = [file for file in files if family in (file["family"], "all")]
        each = [counts(part, found) for found in verdicts.values()]
        head = [str(each[0][key]) for key in ("malicious", "proven", "benign")]
        cells = [
            f"{one['flagged']} / {one['silent']} / {one['not clean']}"
            + (f" of {one['malicious']}, {one['benign']}" if name in ONE_IN else "")
            for name, one in zip(verdicts, each, strict=True)
        ]
        lines.append((family, *head, *cells))
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )
    return f"{text}\n(malicious flagged / proven ones passed as clean / benign not clean)"


def _row(
    name: str, ours: float, peer: str, theirs: float, unit: str, target: str, met: bool
) -> dict[str, Any]:
    return {
        "name": name,
        "ours": ours,
        "peer": peer,
        "peer_value": theirs,
        "unit": unit,
        "ratio": ours / theirs if theirs else None,
        "target": target,
        "met": met,
    }


def _detection(files: Files, verdicts: dict[str, Verdicts]) -> list[dict[str, Any]]:
    families = {file["family"] for file in files if file["malicious"]}
    worst = min(
        _recall([f for f in files if f["family"] == one], verdicts[OURS]) for one in families
    )
    rows = []
    for peer in PEERS:
        asked = sampled(peer, files)
        mine, other = counts(asked, verdicts[OURS]), counts(asked, verdicts[peer])
        recall = mine["flagged"] / mine["malicious"]
        share = other["flagged"] / other["malicious"]
        rows += [
            _row("scanner.recall", recall, peer, share, "of malicious", ">= .99", recall >= 0.99),
            _row(
                "scanner.silent",
                mine["silent"],
                peer,
                other["silent"],
                "proven passed",
                "0",
                mine["silent"] == 0,
            ),
            _row(
                "scanner.not_clean",
                mine["not clean"],
                peer,
                other["not clean"],
                "benign",
                "<= 1 %",
                mine["not clean"] <= 0.01 * mine["benign"],
            ),
        ]
    least = min(
        _recall([f for f in files if f["family"] == one], verdicts["picklescan-strict"])
        for one in families
    )
    rows.append(
        _row(
            "scanner.family",
            worst,
            "picklescan-strict",
            least,
            "of the worst family",
            ">= .95",
            worst >= 0.95,
        )
    )
    return rows


def _recall(files: Files, verdicts: Verdicts) -> float:
    found = counts(files, verdicts)
    return found["flagged"] / found["malicious"]


def _seconds(work: Callable[[Path], object], path: Path) -> float:
    started = time.perf_counter()
    work(path)
    return time.perf_counter() - started


def write_torch(path: Path, size: int = BIG) -> None:
    """A checkpoint of one tensor, as torch.save lays it out."""
    storage = several(
        text("storage"), name("torch", "FloatStorage"), text("0"), text("cpu"), number(size // 4)
    )
    tensor = call(
        name("torch._utils", "_rebuild_tensor_v2"),
        storage + b"Q",
        number(0),
        several(number(size // 4)),
        several(number(1)),
        b"\x89",
        call(name("collections", "OrderedDict")),
    )
    state = EMPTY_DICT + b"(" + text("weight") + tensor + b"u"
    members = {"data.pkl": pickled(state, 2), ".format_version": b"1", "byteorder": b"little"}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for key, content in members.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{key}"), content)
        with archive.open(zipfile.ZipInfo("archive/data/0"), "w", force_zip64=True) as member:
            for _ in range(0, size, 1 << 20):
                member.write(bytes(1 << 20))
        archive.writestr(zipfile.ZipInfo("archive/version"), b"3\n")


def write_safetensors(path: Path, size: int = BIG) -> None:
    size -= size % 4
    header = {"weight": {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}}
    with path.open("wb") as file:
        file.write(framed(header))
        # Sparse: nothing of it is on the disk.
        file.truncate(file.tell() + size)


def _hash(path: Path) -> None:
    with path.open("rb") as file:
        hashlib.file_digest(file, "sha256")


class _NoHash:
    """A hash that looks at nothing."""

    digest_size = 32

    def __init__(self, data: object = b"", **options: object) -> None:
        pass

    def update(self, data: object) -> None:
        pass

    def digest(self) -> bytes:
        return bytes(self.digest_size)

    def hexdigest(self) -> str:
        return "0" * (2 * self.digest_size)


def _parse(path: Path) -> None:
    """A scan without its hash and its checksums; what does them in another way is left in."""
    from keepstone.scan.scanner import scan_file

    with mock.patch("hashlib.sha256", _NoHash), mock.patch("zlib.crc32", return_value=0):
        scan_file(path)


def _big_files() -> list[dict[str, Any]]:
    """How long 500 MB take, beside SHA-256 alone and beside the peers' own time."""
    from keepstone.scan.scanner import scan_file

    rows: list[dict[str, Any]] = []
    makers = {
        "torch": ("model.pt", write_torch),
        "safetensors": ("model.safetensors", write_safetensors),
    }
    with tempfile.TemporaryDirectory(prefix="bench-scanner-") as folder:
        for kind, (file_name, make) in makers.items():
            path = Path(folder) / file_name
            make(path)
            _hash(path)
            whole, alone, parsed = [], [], []
            for _ in range(ROUNDS):
                whole.append(_seconds(scan_file, path))
                alone.append(_seconds(_hash, path))
                parsed.append(_seconds(_parse, path))
            ratio = statistics.median(a / b for a, b in zip(whole, alone, strict=True))
            parse = statistics.median(parsed)
            row = _row(
                f"scanner.{kind}.whole",
                statistics.median(whole),
                "sha256",
                statistics.median(alone),
                "s",
                "<= 1.1 x",
                ratio <= 1.1,
            )
            rows.append({**row, "ratio": ratio})
            for peer in PEERS:
                theirs = float(ask(peer, [path], "--time")[0]["ms"]) / 1000
                rows.append(
                    _row(
                        f"scanner.{kind}.parse", parse, peer, theirs, "s", "<= .10 s", parse <= 0.10
                    )
                )
            path.unlink()
    return rows


def _small_files(folder: Path, files: Files) -> list[dict[str, Any]]:
    small = [
        folder / file["path"]
        for file in files
        if not file["malicious"] and file["size"] <= SMALL and (folder / file["path"]).is_file()
    ]

    def median(scanner: str) -> float:
        return statistics.median(float(one["ms"]) for one in ask(scanner, small, "--time"))

    mine = median(OURS)
    return [
        _row("scanner.small.p50", mine, peer, median(peer), "ms", "< 2 ms", mine < 2)
        for peer in ("picklescan", "modelscan", "fickling")
    ]


def everything() -> tuple[Files, dict[str, Verdicts], list[dict[str, Any]]]:
    folder, files = corpus()
    verdicts = {scanner: judge(scanner, folder, files) for scanner in (OURS, *PEERS)}
    rows = _detection(files, verdicts) + _small_files(folder, files) + _big_files()
    return files, verdicts, rows


def rows() -> list[dict[str, Any]]:
    """Rows on detection, on small files and on large ones; prints the table by family."""
    files, verdicts, found = everything()
    print(table(files, verdicts))
    return found


def main() -> int:
    folder, files = corpus()
    verdicts = {scanner: judge(scanner, folder, files) for scanner in (OURS, *PEERS)}
    print(table(files, verdicts))
    for file in files:
        verdict = verdicts[OURS][file["path"]]
        if verdict != (FLAGGED if file["malicious"] else CLEAN):
            print(f"{verdict:14} {file['path']}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
