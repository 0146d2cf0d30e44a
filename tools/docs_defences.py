"""docs/defences.md: every defence of the lab by what it promises, costs and is blind to.

It is written, and compared, by `tools.docs_attacks` beside the page of attacks. A defence whose
file does not say these is refused here.
"""

from __future__ import annotations

import inspect
import sys
from pathlib import Path

from keepstone.cli.harden import DEFENCES
from keepstone.lab.defences.listed import FAMILIES, Family
from tools.docs_attacks import described, require_said

PAGE = Path(__file__).parent.parent / "docs" / "defences.md"
SAID = ("promise", "arxiv", "cost", "blind")

_HEAD = """\
# Defences

Every defence of the lab, as its own file describes it. This page is made from the source by
`make generate`.

None tells a number before it was attacked by one who knows it, and one that only masks is called
so. See [how models are hardened](explain/hardening.md).

| defence | against | command | ATLAS |
| --- | --- | --- | --- |
"""


def page() -> str:
    return "".join([_HEAD, *map(_rows, FAMILIES), *map(_section, FAMILIES)])


def _rows(family: Family) -> str:
    link = family.title.casefold().replace(" ", "-")
    # Some are called from Python alone.
    named = family.command.rpartition(" ")[2] in DEFENCES
    command = f"`{family.command}`" if named else "none"
    told = (family.against, command, family.mitigation or "none")
    rows = [(f"[{one.name}](#{link})", *told) for one in family.defences]
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def _section(family: Family) -> str:
    module = family.defences[0].__module__
    text = described(sys.modules[module])
    require_said(text, SAID, module)
    parts = [f"\n## {family.title}\n\n{text}\n\nAttacked by: {family.attacked_by}.\n"]
    for one in family.defences:
        # What a dataclass is given for a docstring where it has none is its signature.
        has_own = not (inspect.getdoc(one) or "").startswith(f"{one.__name__}(")
        if len(family.defences) > 1 and has_own:
            parts.append(f"\n### {one.name}\n\n{described(one)}\n")
    return "".join(parts)
