"""A file that says what an attacker may do to the features of a row.

    {"schema": "keepstone.constraints/v1",
     "immutable": ["age"], "integer": ["age", "visits"], "grows": ["visits"], "shrinks": [],
     "one_hot": [["red", "green", "blue"]], "cost": {"income": 2.5}}

Features are named as the samples name them, or by their places from 0 on. Every member but the
schema may be missing.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from keepstone.core.canonical import parse_json
from keepstone.errors import InputError
from keepstone.lab.domain import Constraints

SCHEMA = "keepstone.constraints/v1"
MAX_FILE = 4 << 20
_LISTS = ("immutable", "integer", "grows", "shrinks")


def read_constraints(data: bytes, width: int, features: Sequence[str] = ()) -> Constraints:
    """Constraints on rows of `width` features, called `features` where they have names.

    Raises InputError `json.*`, `attack.bad_constraint`.
    """
    said = parse_json(data, limit=MAX_FILE)
    if not isinstance(said, dict) or said.get("schema") != SCHEMA:
        raise _bad(f"is not in a file of the schema {SCHEMA}")
    unknown = sorted(set(said) - {"schema", "one_hot", "cost", *_LISTS})
    if unknown:
        raise _bad(f"is called {unknown[0][:64]!r}, which is none")
    places = {name: place for place, name in enumerate(features)}

    def place(feature: object) -> int:
        if isinstance(feature, str) and feature in places:
            return places[feature]
        if type(feature) is int and 0 <= feature < width:
            return feature
        raise _bad(f"names the feature {str(feature)[:64]!r}, which the samples do not have")

    def listed(value: object) -> list[int]:
        if not isinstance(value, list):
            raise _bad("is not a list of features")
        return [place(feature) for feature in value]

    groups = said.get("one_hot", [])
    if not isinstance(groups, list):
        raise _bad("is not a list of one-hot groups")
    return Constraints.of(
        width,
        **{name: listed(said.get(name, [])) for name in _LISTS},
        one_hot=[listed(group) for group in groups],
        cost=_costs(said["cost"], width, place) if "cost" in said else None,
    )


def _costs(value: object, width: int, place: Any) -> list[float]:
    """One for each feature: 1 where the file gives none."""
    if not isinstance(value, dict):
        raise _bad("does not give each feature one cost")
    costs = [1.0] * width
    for feature, cost in value.items():
        number = cost if type(cost) in (int, float) else math.nan
        if not (math.isfinite(number) and number > 0):
            raise _bad(f"gives {feature[:64]!r} a cost that is not above zero")
        # Names of members are texts: a place is written as one.
        at = place(int(feature) if feature.isascii() and feature.isdigit() else feature)
        costs[at] = float(number)
    return costs


def _bad(why: str) -> InputError:
    return InputError(
        "attack.bad_constraint", f"A constraint {why}.", "See docs/explain/attacking.md."
    )
