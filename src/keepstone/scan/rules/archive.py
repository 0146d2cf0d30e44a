"""Rules for archives."""

from keepstone.scan.rules.rule import FLAGGED, HIGH, Rule

TABLE = (
    Rule(
        "zip.ambiguous",
        HIGH,
        FLAGGED,
        "The archive names one member twice, or says two things about one: readers take"
        " different files.",
    ),
    Rule(
        "zip.unsafe_path",
        HIGH,
        FLAGGED,
        "A member's name leads out of the folder that the archive is unpacked into.",
    ),
)
