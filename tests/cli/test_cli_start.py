"""Starting is cheap, every command explains itself, and no failure passes for a yes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest

from keepstone import __version__
from keepstone.cli import main as room
from keepstone.cli.main import COMMANDS, cli, run
from keepstone.errors import DeniedError, Exit, InputError, OperationalError, VerificationError

HEAVY = ["numpy", "onnxruntime", "cryptography", "uvicorn", "uvloop", "cedarpy", "msgspec", "rich"]


def _commands(command: click.Command, *path: str) -> Iterator[tuple[str, ...]]:
    yield path
    if isinstance(command, click.Group):
        context = click.Context(command)
        for name in command.list_commands(context):
            inner = command.get_command(context, name)
            assert inner is not None
            yield from _commands(inner, *path, name)


EVERY = list(_commands(cli))


def test_every_command_is_a_file_of_its_own() -> None:
    folder = Path(room.__file__).parent
    for name, module in COMMANDS.items():
        assert (folder / f"{module}.py").exists(), name
    assert {("ledger", "prove"), ("keys", "rotate")} <= set(EVERY)


@pytest.mark.parametrize("path", EVERY, ids=" ".join)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_explains_itself(
    path: tuple[str, ...], flag: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run([*path, flag]) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"Usage: {' '.join(['keepstone', *path])}")
    assert said.err == ""


@pytest.mark.parametrize("arguments", [["--help"], ["--version"], ["up", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    code = (
        "import json, sys; from keepstone.cli.main import run\n"
        f"status = run({arguments!r})\n"
        f"print(json.dumps([status, [n for n in {HEAVY!r} if n in sys.modules]]), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert json.loads(done.stderr) == [0, []]
    assert done.stdout


def test_the_version_is_the_packages(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert __version__ in capsys.readouterr().out


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["nonsense"],
        ["up"],
        ["up", "m", "--port", "65536"],
        ["up", "m", "--audit", "lax"],
        ["up", "m", "--signature", "/nowhere/at/all"],
        ["init", "--profile", "lax"],
        ["keys"],
        ["keys", "create"],
        ["keys", "create", "user:a", "--lifetime", "0s"],
        ["keys", "create", "user:a", "--lifetime", "1w"],
        ["keys", "create", "user:a", "--lifetime", "٣s"],
        ["ledger", "tail", "-n", "0"],
        ["ledger", "verify", "--format", "sarif"],
        ["approve", "m"],
        ["revoke", "m", "--as", "k", "--reason", "r", "--kind", "planet"],
        ["doctor", "--workspace", __file__],
    ],
    ids=" ".join,
)
def test_wrong_usage_ends_with_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(arguments) == 2
    assert "Usage:" in "".join(capsys.readouterr())


@pytest.mark.parametrize(
    ("raised", "status"),
    [
        (InputError("a.b", "C.", "N."), 2),
        (VerificationError("a.b", "C.", "N."), 1),
        (DeniedError("a.b", "C.", "N."), 1),
        (OperationalError("a.b", "C.", "N."), 3),
        (KeyboardInterrupt(), 130),
        (ZeroDivisionError("ours"), 3),
        (OSError(28, "No space left on device"), 3),
        (click.ClickException("x"), 2),
    ],
    ids=repr,
)
def test_each_family_has_its_status(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    raised: BaseException,
    status: int,
) -> None:
    def fail(**given: object) -> None:
        raise raised

    monkeypatch.setattr(cli, "main", fail)
    assert run(["doctor"]) == status
    said = capsys.readouterr()
    assert said.out == ""
    if hasattr(raised, "code"):
        assert said.err == "error[a.b]: C.\n  next: N.\n"
    if status == 3 and not hasattr(raised, "code"):
        assert "error[internal.error]" in said.err


@pytest.mark.parametrize("code", [0, None])
def test_code_of_the_callers_that_leaves_with_a_yes_says_nothing(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], code: int | None
) -> None:
    def leave(**given: object) -> None:
        raise SystemExit(code)

    monkeypatch.setattr(cli, "main", leave)
    assert run(["doctor"]) == 3
    assert "error[internal.error]" in capsys.readouterr().err


def test_a_fault_of_ours_can_be_looked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(**given: object) -> None:
        raise ZeroDivisionError("ours")

    monkeypatch.setattr(cli, "main", fail)
    monkeypatch.setenv("KEEPSTONE_TRACEBACK", "1")
    with pytest.raises(ZeroDivisionError):
        run([])


def test_a_command_returns_its_own_status(monkeypatch: pytest.MonkeyPatch) -> None:
    for answer, status in ((None, 0), (0, 0), (1, 1), (3, 3), (Exit.NO, 1)):
        monkeypatch.setattr(cli, "main", lambda answer=answer, **given: answer)
        assert run([]) == status


def test_a_result_that_nobody_read_is_not_a_yes(tmp_path: Path) -> None:
    """`keepstone verify ... | head -0` under pipefail: the pipe breaks, the answer is not 0."""
    text = tmp_path / "text"
    text.write_text("hello")
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        [sys.executable, "-m", "keepstone.cli", "scan", str(text)],
        stdout=writing,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(writing)
    assert (done.returncode, done.stderr) == (1, b"")


def test_a_pipe_gets_no_colour_and_no_spinner(place: Any) -> None:
    from keepstone.cli.output import colours

    class Terminal:
        def isatty(self) -> bool:
            return True

    done = place.run("up", place.root / "none.onnx", FORCE_COLOR="1")
    assert "\x1b" not in done.stdout + done.stderr
    assert colours(Terminal()) is not bool(os.environ.get("NO_COLOR"))


def test_no_color_is_heard(monkeypatch: pytest.MonkeyPatch) -> None:
    from keepstone.cli import output

    class Terminal:
        def isatty(self) -> bool:
            return True

    for value, coloured in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", value)
        assert output.colours(Terminal()) is coloured


def test_a_json_result_without_a_schema_is_a_fault_of_ours() -> None:
    from keepstone.cli.output import emit_json

    with pytest.raises(ValueError, match="schema"):
        emit_json({"a": 1})


@pytest.mark.parametrize(
    ("text", "milliseconds"),
    [("90s", 90_000), ("15m", 900_000), ("12h", 43_200_000), ("1d", 86_400_000)],
)
def test_durations_are_read_as_people_write_them(text: str, milliseconds: int) -> None:
    from keepstone.cli.duration import DURATION

    assert DURATION.convert(text, None, None) == milliseconds
    assert DURATION.convert(5, None, None) == 5


@pytest.mark.parametrize(
    "text", ["", "0s", "1", "s", "-1s", "1.5h", "1 h", "1H", "9999999999s", "1h\n"]
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    from keepstone.cli.duration import DURATION

    with pytest.raises(click.BadParameter):
        DURATION.convert(text, None, None)


def test_the_environment_says_where_things_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from keepstone.cli.options import outside_folder, passphrase, site_at

    for name in ("KEEPSTONE_OUTSIDE", "XDG_STATE_HOME", "KEEPSTONE_PASSPHRASE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert outside_folder() == tmp_path / ".local/state/keepstone/checkpoints"
    monkeypatch.setenv("XDG_STATE_HOME", "/state")
    assert outside_folder() == Path("/state/keepstone/checkpoints")
    monkeypatch.setenv("KEEPSTONE_OUTSIDE", "/elsewhere")
    assert outside_folder() == Path("/elsewhere")
    assert passphrase() is None
    monkeypatch.setenv("KEEPSTONE_PASSPHRASE", "")
    assert passphrase() is None
    monkeypatch.setenv("KEEPSTONE_PASSPHRASE", "é")
    monkeypatch.chdir(tmp_path)
    site = site_at(Path("ws"))
    assert (site.layout.root, site.passphrase) == (tmp_path / "ws", "é".encode())
    assert "é" not in repr(site)
