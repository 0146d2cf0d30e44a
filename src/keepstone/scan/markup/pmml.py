"""PMML: the functions a model calls, and the parts that are no part of PMML.

An evaluator looks a function up among those that PMML defines, those that the document defines,
and, as JPMML does, among the classes of the machine. Source: PMML 4.4.1 ("Built-in Functions",
"Extension Mechanism"), JPMML-Evaluator.
"""

from __future__ import annotations

import re

from keepstone.scan.rules import printable
from keepstone.scan.text.payload import attack_in
from keepstone.scan.text.words import words

_SPACE = re.compile(r"http://www\.dmg\.org/PMML-\d[_.]\d(?:[_.]\d)?\Z")
_BUILT_IN = frozenset(
    words(
        """
    + - * / min max sum avg median product log10 ln sqrt abs exp pow threshold floor ceil round
    modulo isMissing isNotMissing isValid isNotValid equal notEqual lessThan lessOrEqual
    greaterThan greaterOrEqual and or not isIn isNotIn if uppercase lowercase stringLength
    substring trimBlanks concat replace matches formatNumber formatDatetime dateDaysSinceYear
    dateSecondsSinceYear dateSecondsSinceMidnight erf normalCDF normalPDF stdNormalCDF
    stdNormalPDF stdNormalIDF normalIDF expm1 hypot ln1p rint sin asin sinh cos acos cosh tan
    atan tanh
    """
    )
)
# Vendor functions that JPMML's converters write, all of them arithmetic.
_VENDOR = re.compile(
    r"x-(?:a?(?:sin|cos|tan)h?|expm1|ln1p|log1p|rint|cbrt|sign|floor|ceil|hypot)\Z"
)
# A class by its full name, as JPMML and others load it.
_CLASS = re.compile(r"(?:[A-Za-z_$][\w$]*\.)+[A-Za-z_$][\w$]*\Z")


def is_pmml(space: str, name: str) -> bool:
    """True for the root of a PMML document."""
    return name == "PMML" and (not space or _SPACE.match(space) is not None)


class Pmml:
    """One document; `problems` are pairs of a rule and why, kept until all functions are known."""

    def __init__(self) -> None:
        self.defined: set[str] = set()
        self.called: set[str] = set()
        self.said: list[tuple[str, str]] = []

    def element(self, name: str, attributes: dict[str, str], depth: int) -> None:
        if name == "DefineFunction":
            self.defined.add(attributes.get("name", ""))
        elif name == "Apply" and len(self.called) < 10_000:
            self.called.add(attributes.get("function", ""))
        elif name == "Aggregate" and len(self.called) < 10_000:
            self.called.add("sum")
        elif name == "Extension":
            self.extension(attributes)
        for key, value in attributes.items():
            # `x-modelClass` and the like: what a vendor's evaluator loads.
            if "class" in key.casefold() and key.startswith("x-") and _CLASS.match(value):
                self.say("pmml.function", f"The attribute {printable(key, 40)} names a class.")
        if name == "TableLocator":
            self.say("pmml.unknown", "A table of the model lies elsewhere.")

    def extension(self, attributes: dict[str, str]) -> None:
        for key, value in attributes.items():
            named = key in ("value", "name", "extender") and _CLASS.match(value)
            # A version or a package of R has dots too: a class ends with a capital.
            if named and value.rsplit(".", 1)[-1][:1].isupper() and value.count(".") > 1:
                self.say("pmml.unknown", f"An extension names {printable(value, 60)}.")
            if attack := attack_in(value):
                self.say("pmml.function", f"An extension says {printable(attack, 60)}.")

    def say(self, rule: str, reason: str) -> None:
        if (rule, reason) not in self.said and len(self.said) < 20:
            self.said.append((rule, reason))

    @property
    def problems(self) -> list[tuple[str, str]]:
        found = list(self.said)
        for name in sorted(self.called - self.defined - _BUILT_IN)[:20]:
            shown = printable(name, 60)
            if _VENDOR.match(name):
                continue
            if _CLASS.match(name):
                found.append(("pmml.function", f"The model calls the class {shown}."))
            else:
                found.append(("pmml.unknown", f"The model calls {shown}, which PMML lacks."))
        return found
