"""Rules for archives."""

from keepstone.scan.rules.rule import FLAGGED, HIGH, LOW, OPEN, Rule

TABLE = (
    Rule(
        "archive.bomb",
        HIGH,
        FLAGGED,
        "A few bytes unpack to, or claim, far more than any honest file of their size.",
    ),
    Rule(
        "numpy.malformed",
        LOW,
        OPEN,
        "The header or the length of the array is not what NumPy writes.",
    ),
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
