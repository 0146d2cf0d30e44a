"""Rules for gradient-boosted trees."""

from keepstone.scan.rules.rule import FLAGGED, HIGH, MEDIUM, OPEN, Rule

TABLE = (
    Rule(
        "trees.cycle",
        HIGH,
        FLAGGED,
        "A tree's nodes lead back to one another: whoever walks it never arrives.",
    ),
    Rule(
        "trees.inconsistent",
        HIGH,
        FLAGGED,
        "The model's counts and contents differ, or a node points outside of its tree: readers in"
        " C++ follow it out of their memory.",
    ),
    Rule(
        "trees.unknown",
        MEDIUM,
        OPEN,
        "The model has a part, a number or a name that no version known here writes.",
    ),
)
