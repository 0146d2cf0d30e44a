"""What the pages show is what runs, and the tools that hold them to it see each difference."""

from __future__ import annotations

from pathlib import Path

import click
import pytest

from tools import docs_cli, readme


@click.group()
def shop() -> None:
    """Sell things."""


@shop.command()
@click.argument("thing")
@click.option("--colour", type=click.Choice(["red", "blue"]), help="Its colour.")
@click.option("--as", "buyer", required=True, help="Who buys.")
def sell(thing: str, colour: str | None, buyer: str) -> None:
    """Sell a THING."""


@shop.group()
def till() -> None:
    """Look after the till."""


@till.command("open")
def open_till() -> None:
    """Open it."""


@shop.command(hidden=True)
def secret() -> None:
    """Not for the page."""


def _problems(text: str) -> list[str]:
    return readme.check(shop, "shop", {"page.md": text}, {"run", "test"})


def _block(*lines: str) -> str:
    return "\n".join(["Words.", "", "```console", *lines, "```", ""])


@pytest.mark.parametrize(
    "line",
    [
        "$ shop sell hat --as me",
        "$ shop sell hat --as me --colour=red > out.txt",
        "$ shop till open && make test",
        "$ shop --help",
        "$ make run PORT=1",
        "$ curl --anything https://127.0.0.1 | shop till open   # a comment",
        "shop this line is output",
    ],
)
def test_what_runs_passes(line: str) -> None:
    assert _problems(_block(line)) == []


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        ("$ shop buy", "`shop` has no command 'buy'"),
        ("$ shop till close", "`shop till` has no command 'close'"),
        ("$ shop sell hat", "`shop sell` requires '--as'"),
        ("$ shop sell --as me", "`shop sell` requires 'THING'"),
        ("$ shop sell hat --as me --qqqq 3", "`shop sell`: No such option '--qqqq'."),
        ("$ shop sell hat cap --as me", "`shop sell` does not take 'cap'"),
        ("$ shop sell hat --as me --colour green", "`shop sell`: '--colour' has no choice 'green'"),
        ("$ true | shop buy", "`shop` has no command 'buy'"),
        ("$ make tea", "there is no `make tea`"),
    ],
)
def test_what_would_not_run_is_named_with_its_line(line: str, problem: str) -> None:
    assert _problems(_block("$ shop till open", line)) == [f"page.md:5: {problem}"]


@pytest.mark.parametrize(
    ("span", "problem"),
    [
        ("shop sell", None),
        ("shop sell HAT --as KEY", None),
        ("shop sell --colour=red", None),
        ("shop THING", None),
        ("shop till\nopen", None),
        ("another --option", None),
        ("shop buy", "page.md:1: `shop` has no command 'buy'"),
        ("shop till close", "page.md:1: `shop till` has no command 'close'"),
        ("shop sell --size 3", "page.md:1: `shop sell` has no option --size"),
    ],
)
def test_a_command_in_running_text_names_what_exists(span: str, problem: str | None) -> None:
    assert _problems(f"Use `{span}` for that.\n") == ([] if problem is None else [problem])


def test_a_command_may_go_on_over_lines() -> None:
    assert _problems(_block("$ shop sell hat \\", "    --as me")) == []
    assert _problems(_block("$ shop sell hat \\", "    --qqqq 3")) != []


def test_only_console_blocks_are_commands() -> None:
    assert _problems("```text\n$ shop buy\n```\n") == []


def test_shown_help_is_the_help_that_is_printed() -> None:
    context = next(c for path, _, c in docs_cli.walk(shop, "shop") if path == "shop till open")
    printed = context.command.get_help(context).splitlines()

    assert _problems(_block("$ shop till open --help", *printed)) == []
    assert _problems(_block("$ shop till open --help", *printed, "More.")) == [
        "page.md:4: `shop till open --help` prints something else"
    ]


def test_the_commands_page_holds_every_command_that_is_not_hidden() -> None:
    page = docs_cli.render(shop, "shop")

    assert [line[3:] for line in page.splitlines() if line.startswith("## ")] == [
        "shop",
        "shop sell",
        "shop till",
        "shop till open",
    ]
    assert "Usage: shop sell [OPTIONS] THING" in page


def test_the_pages_of_this_repository_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert readme.main() == 0, capsys.readouterr().err


def test_the_commands_page_of_this_repository_is_what_runs() -> None:
    assert docs_cli.main(["--check"]) == 0


def test_check_fails_on_a_stale_commands_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(docs_cli, "PAGE", tmp_path / "cli.md")

    assert docs_cli.main(["--check"]) == 1
    assert docs_cli.main([]) == 0
    assert docs_cli.main(["--check"]) == 0
    assert "make generate" in capsys.readouterr().err
