"""Every error code is documented, however the source comes by it."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepstone.gateway.problem import PROBLEMS
from tools import docs_errors

SOURCE = {
    "plain.py": """
from keepstone.errors import DeniedError, InputError
CODE = "plain.constant"
def one():
    raise InputError("plain.literal", "It is not right.")
def two(value):
    raise DeniedError(CODE, f"No {value.name!r} may pass.")
def three(flag):
    return InputError("plain.yes" if flag else "plain.no", "Either.")
""",
    "handed.py": """
from keepstone.errors import OperationalError, VerificationError
from keepstone.plain import CODE
def _fail(word, cause):
    return OperationalError(f"handed.{word}", cause)
def use():
    raise _fail("first", "The first.")
def use_again():
    raise _fail("second", cause="The second.")
class Reader:
    def __init__(self, code="reader.default"):
        self._code = code
    def fault(self):
        raise VerificationError(self._code, "The reader stopped.")
def other():
    Reader("reader.given").fault()
""",
    "stranger.py": """
def _fail(word, cause): ...
_fail("never", "It is another function of the same name.")
""",
}


def _package(folder: Path, files: dict[str, str]) -> Path:
    package = folder / "keepstone"
    package.mkdir()
    for name, text in files.items():
        (package / name).write_text(text)
    return package


def test_codes_are_found_wherever_they_come_from(tmp_path: Path) -> None:
    raised, unclear = docs_errors.collect(_package(tmp_path, SOURCE))

    assert unclear == []
    assert {(one.code, one.family.family) for one in raised} == {
        ("plain.literal", "input"),
        ("plain.constant", "denied"),
        ("plain.yes", "input"),
        ("plain.no", "input"),
        ("handed.first", "operational"),
        ("handed.second", "operational"),
        ("reader.default", "verification"),
        ("reader.given", "verification"),
    }


def test_a_cause_goes_with_the_code_of_the_same_caller(tmp_path: Path) -> None:
    raised, _ = docs_errors.collect(_package(tmp_path, SOURCE))
    causes = {one.code: one.causes for one in raised}

    assert causes["handed.first"] == ("The first.",)
    assert causes["handed.second"] == ("The second.",)
    assert causes["plain.constant"] == ("No {name} may pass.",)


def test_a_code_that_nobody_can_tell_is_refused(tmp_path: Path) -> None:
    text = "from keepstone.errors import InputError\nraise InputError(input(), 'Why.')\n"

    _, unclear = docs_errors.collect(_package(tmp_path, {"vague.py": text}))

    assert unclear == ["keepstone/vague.py:2: the code cannot be told"]


def test_the_page_gives_family_exit_and_cause(tmp_path: Path) -> None:
    raised, _ = docs_errors.collect(_package(tmp_path, SOURCE))

    page = docs_errors.render(raised)

    assert "| `plain.constant` | denied | 1 | No *name* may pass. | plain |" in page
    assert "| `handed.first` | operational | 3 | The first. | handed |" in page


def test_every_answer_of_the_gateway_is_listed() -> None:
    listed = docs_errors.PAGE.read_text(encoding="utf-8").partition("## Answers over HTTP")[2]

    assert [code for code in PROBLEMS if f"| `{code}` |" not in listed] == []
    assert "| `limit.principal` | 429 |" in docs_errors.render_answers(PROBLEMS.values())


def test_this_repository_documents_every_code() -> None:
    raised, unclear = docs_errors.collect(docs_errors.ROOT / "src" / "keepstone")

    assert unclear == []
    listed = docs_errors.PAGE.read_text(encoding="utf-8")
    assert [one.code for one in raised if f"| `{one.code}` |" not in listed] == []


def test_check_fails_on_a_stale_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "src").mkdir()
    _package(tmp_path / "src", SOURCE)
    monkeypatch.setattr(docs_errors, "ROOT", tmp_path)
    monkeypatch.setattr(docs_errors, "PAGE", tmp_path / "errors.md")

    assert docs_errors.main(["--check"]) == 1
    assert docs_errors.main([]) == 0
    assert docs_errors.main(["--check"]) == 0
    assert "make generate" in capsys.readouterr().err
