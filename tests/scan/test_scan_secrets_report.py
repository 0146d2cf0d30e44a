"""What is told of a secret: never the secret; known, allowed and gone; and the command."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.planted.values import FAMILIES
from keepstone.cli.main import run
from keepstone.core.finding import Outcome
from keepstone.errors import InputError
from keepstone.scan.secrets.baseline import SCHEMA, Entry, gone, parse_baseline, write_baseline
from keepstone.scan.secrets.found import Hit, fingerprint, mask
from keepstone.scan.secrets.look import find_secrets
from keepstone.scan.secrets.paths import scan_secrets
from keepstone.scan.secrets.report import to_json, to_sarif, to_text

TOKEN = next(one for one in FAMILIES if one.kind == "github").make(random.Random(9))
WORD = "Vel" + "vet_Harbor83!"
LINE = f'password = "{WORD}"\n'


def _folder(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / f"{name}.py").write_text(text)
    return tmp_path


# What is shown ----------------------------------------------------------------------------------


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.kind)
def test_no_form_of_the_report_holds_a_secret(family: object, tmp_path: Path) -> None:
    value = family.make(random.Random(11))  # type: ignore[attr-defined]
    name = family.name  # type: ignore[attr-defined]
    text = value if family.whole else f"{name} = {value!r}\n"  # type: ignore[attr-defined]
    report = scan_secrets([_folder(tmp_path, a=text)])
    assert report.outcome is Outcome.FLAGGED
    told = to_text(report) + json.dumps(to_json(report)) + json.dumps(to_sarif(report))
    told += write_baseline(report.found).decode() + repr(report)
    inside = [value[at : at + 9] for at in range(4, len(value) - 8)]
    known = (
        "private",
        "PRIVATE",
        "Private",
        "untrusted",
        "minisign",
        "PuTTY",
        "service",
        "machine",
    )
    leaks = [part for part in inside if part in told and not any(k in value for k in known)]
    assert not [part for part in leaks if part not in text.replace(value, "") and "aws" not in part]


@given(st.text(min_size=1, max_size=200))
def test_a_mask_shows_a_quarter_at_most(value: str) -> None:
    told, behind = mask(value), f"... ({len(value)} characters)"
    assert told.endswith(behind)
    assert len(told) - len(behind) <= min(4, len(value) // 4)


def test_a_hit_says_nothing_of_its_value() -> None:
    assert "abc" not in repr(Hit(0, 3, "secret.token", "k", "abcdef"))


def test_a_report_has_no_digest_of_a_file(tmp_path: Path) -> None:
    # A file that holds a password alone could be guessed back from its digest.
    report = scan_secrets([_folder(tmp_path, a=LINE)])
    told = json.dumps(to_json(report)) + json.dumps(to_sarif(report))
    assert "sha256" not in told
    assert "sha-256" not in told


# Fingerprints ------------------------------------------------------------------------------------


@given(st.text(max_size=40), st.text(max_size=40))
def test_what_could_be_guessed_is_no_part_of_a_fingerprint(one: str, other: str) -> None:
    first, second = (Hit(0, 1, "secret.assigned", "password", value) for value in (one, other))
    assert fingerprint(first, "p", None, 1) == fingerprint(second, "p", None, 1)
    assert fingerprint(first, "p", None, 1) != fingerprint(first, "p", None, 2)
    assert fingerprint(first, "p", None, 1) != fingerprint(first, "q", None, 1)


def test_everything_a_person_may_choose_is_marked_as_guessable() -> None:
    texts = [
        LINE,
        f"https://me:{WORD.replace('!', '')}@x.net/",
        f"machine x login y password {WORD}",
    ]
    for text in texts:
        first = [item.fingerprint for item in find_secrets(text.encode(), "x.py")]
        changed = text.replace("Harbor83", "Meadow71")
        assert first == [item.fingerprint for item in find_secrets(changed.encode(), "x.py")] != []


def test_a_random_token_is_one_secret_wherever_it_lies() -> None:
    first, second = (list(find_secrets(TOKEN.encode(), path)) for path in ("a", "b"))
    assert first[0].fingerprint == second[0].fingerprint


# Comments and baselines ---------------------------------------------------------------------------


def test_a_comment_allows_with_a_reason_and_hides_nothing(tmp_path: Path) -> None:
    allowed = LINE.rstrip() + "  # keepstone: allow-secret only in a test\n"
    report = scan_secrets([_folder(tmp_path, a=allowed)])
    assert report.outcome is Outcome.CLEAN
    (secret,) = to_json(report)["files"][0]["secrets"]
    assert secret["allowed"] == "only in a test"
    assert "(allowed)" in to_text(report)
    (result,) = to_sarif(report)["runs"][0]["results"]
    assert result["suppressions"][0]["kind"] == "inSource"


@pytest.mark.parametrize(
    "text",
    [
        LINE.rstrip() + "  # keepstone: allow-secret\n",
        LINE.rstrip() + "  # keepstone: allow-secret  -\n",
        "# keepstone: allow-secret for the next line\n" + LINE,
        LINE + "# keepstone: allow-secret for the line before\n",
    ],
)
def test_a_comment_without_a_reason_or_elsewhere_allows_nothing(text: str, tmp_path: Path) -> None:
    assert scan_secrets([_folder(tmp_path, a=text)]).outcome is Outcome.FLAGGED


def test_a_known_secret_is_shown_and_a_new_one_flagged(tmp_path: Path) -> None:
    folder = _folder(tmp_path, a=LINE, b=f"x = '{TOKEN}'\n")
    data = write_baseline(scan_secrets([folder]).found)
    baseline = parse_baseline(data)
    known = scan_secrets([folder], baseline=baseline)
    assert known.outcome is Outcome.CLEAN
    assert known.gone == ()
    assert "(known)" in to_text(known)
    results = to_sarif(known)["runs"][0]["results"]
    assert [result["suppressions"][0]["kind"] for result in results] == ["external", "external"]
    (folder / "a.py").write_text(LINE + LINE)
    (folder / "b.py").write_text("x = 1\n")
    changed = scan_secrets([folder], baseline=baseline)
    assert changed.outcome is Outcome.FLAGGED
    assert [entry.kind for entry in changed.gone] == ["GitHub token"]
    assert "not found any more" in to_text(changed)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"[]",
        b'{"schema": "keepstone.secrets-baseline/v1"}',
        b'{"schema": "keepstone.secrets-baseline/v1", "secrets": {}}',
        b'{"schema": "keepstone.secrets-baseline/v1", "secrets": [{}]}',
        b'{"schema": "keepstone.secrets-baseline/v1", "secrets": ['
        b'{"path": "a", "kind": "k", "fingerprint": "x"}]}',
        b'{"schema": "keepstone.secrets-baseline/v1", "secrets": ['
        b'{"path": 1, "kind": "k", "fingerprint": "' + b"a" * 40 + b'"}]}',
    ],
)
def test_a_broken_baseline_is_refused(data: bytes) -> None:
    with pytest.raises(InputError) as caught:
        parse_baseline(data)
    assert caught.value.code == "secrets.baseline"


def test_a_newer_baseline_is_refused_by_name() -> None:
    with pytest.raises(InputError) as caught:
        parse_baseline(json.dumps({"schema": SCHEMA[:-1] + "2", "secrets": []}).encode())
    assert caught.value.code == "secrets.newer_baseline"


def test_entries_that_name_nothing_are_gone() -> None:
    entry = Entry("a", "k", "0" * 40)
    assert gone([entry, entry], []) == (entry,)


# Paths and the command ----------------------------------------------------------------------------


def test_history_and_patterns_are_left_out_and_links_told(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    (tmp_path / ".git" / "config").write_text(LINE)
    (tmp_path / "skip.py").write_text(LINE)
    (tmp_path / "link").symlink_to(tmp_path / "skip.py")
    report = scan_secrets([tmp_path], exclude=["skip.*"])
    assert [Path(file.path).name for file in report.files] == ["link"]
    assert report.outcome is Outcome.NOT_EVALUATED


def test_a_missing_path_is_told(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        scan_secrets([tmp_path / "none"])
    assert caught.value.code == "scan.missing"


def test_sarif_gives_lines(tmp_path: Path) -> None:
    report = scan_secrets([_folder(tmp_path, a="# one\n" + LINE)])
    (result,) = to_sarif(report)["runs"][0]["results"]
    region = result["locations"][0]["physicalLocation"]["region"]
    assert region == {"startLine": 2, "startColumn": 13}
    assert result["partialFingerprints"]


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "d").mkdir()
    folder = _folder(tmp_path / "d", a=LINE)
    kept = tmp_path / "baseline.json"

    def said(*arguments: object) -> tuple[int, str, str]:
        capsys.readouterr()
        status = run(["scan", "secrets", *map(str, arguments)])
        told = capsys.readouterr()
        return status, told.out, told.err

    status, text, people = said(folder, "--write-baseline", kept)
    assert (status, WORD in text + people) == (1, False)
    assert said(folder, "--baseline", kept)[0] == 0
    status, text, _ = said(folder, "--baseline", kept, "--format", "json")
    assert (status, json.loads(text)["schema"]) == (0, "keepstone.scan-secrets/v1")
    assert json.loads(said(folder, "--format", "sarif")[1])["version"] == "2.1.0"
    kept.write_text("{}")
    status, _, people = said(folder, "--baseline", kept)
    assert (status, "error[secrets.baseline]" in people) == (2, True)
    (folder / "a.py").write_bytes(b"PAR1" + bytes(9))
    assert said(folder)[0] == 3
    (folder / "a.py").write_text("x = 1\n")
    assert said(folder)[0] == 0
    assert said()[0] == 2
    assert "error[scan.missing]" in said(tmp_path / "none")[2]
