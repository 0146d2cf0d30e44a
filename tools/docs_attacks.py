"""Write docs/attacks.md: every attack of the lab by its paper, what it needs, its cost and what it
is blind to, as the attack's own file says it; and docs/defences.md. `--check` compares instead of
writing.

An attack whose file says neither what it costs nor what it is blind to is refused here.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Sequence
from pathlib import Path

from keepstone.lab.attacks.listed import ATTACKS, Named

PAGE = Path(__file__).parent.parent / "docs" / "attacks.md"
# Every attack says these of itself, somewhere in its file.
SAID = ("cost", "blind")

_HEAD = """\
# Attacks

Every attack of the lab, as its own file describes it. This page is made from the source by
`make generate`.

What an attack asks goes through a meter, which keeps its budget and its domain and judges what was
served; no attack is believed. See [how models are attacked](explain/attacking.md).
"""
_FAMILIES = {
    "evasion": "Inputs that are served a wrong label.",
    "extraction": "Copies of a model, made of its answers.",
    "privacy": "What a model tells of the rows that it was trained on.",
    "poisoning": "Data sets that spoil what is trained on them.",
    "availability": "Inputs that take a model long.",
}


def page() -> str:
    parts = [_HEAD]
    for family, attacks in ATTACKS.items():
        parts.append(f"\n## {family.capitalize()}\n\n{_FAMILIES[family]}\n")
        parts.append(
            "\n| attack | needs | norms | ATLAS | source |\n| --- | --- | --- | --- | --- |\n"
        )
        parts += [_row(attack) for attack in attacks]
        parts += [_section(attack) for attack in attacks]
    return "".join(parts)


def _row(attack: type[Named]) -> str:
    needs = getattr(attack, "needs", "")
    wanted = f"{needs} shadow models" if isinstance(needs, int) else str(needs)
    norms = ", ".join(sorted(getattr(attack, "norms", ())))
    cells = (f"[{attack.name}](#{attack.name})", wanted, norms)
    return "| " + " | ".join((*cells, attack.source.atlas, attack.source.paper)) + " |\n"


def _section(attack: type[Named]) -> str:
    text = describe(attack)
    require_said(text, SAID, attack.__module__)
    return f"\n### {attack.name}\n\n{text}\n"


def describe(attack: type[Named]) -> str:
    """What the file and the class say, a paragraph each."""
    return "\n\n".join(filter(None, map(described, (sys.modules[attack.__module__], attack))))


def described(what: object) -> str:
    """The docstring of a file or a class, safe for Markdown."""
    parts = (inspect.getdoc(what) or "").split("`")
    # What stands in backticks is told as it is.
    parts[::2] = [part.replace("<", "&lt;").replace("_", "\\_") for part in parts[::2]]
    return "`".join(parts)


def require_said(text: str, said: Sequence[str], module: str) -> None:
    """Raises SystemExit for a file that leaves one of these out."""
    lowered = text.casefold()
    missing = [word for word in said if word not in lowered]
    if missing:
        raise SystemExit(f"{module} does not say its {' and '.join(missing)}.")


def main(arguments: list[str]) -> int:
    # Of that page's making this file is a part.
    from tools import docs_defences

    for path, text in ((PAGE, page()), (docs_defences.PAGE, docs_defences.page())):
        if "--check" not in arguments:
            path.write_text(text)
        elif not path.exists() or path.read_text() != text:
            print(f"docs/{path.name} is not what the source says: run `make generate`.")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
