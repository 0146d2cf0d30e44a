"""Rules for archives."""

from keepstone.scan.rules.rule import FLAGGED, HIGH, LOW, MEDIUM, OPEN, Rule

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
        "zip.encrypted",
        MEDIUM,
        FLAGGED,
        "A member is encrypted, which no loader of models reads, and no check sees into.",
    ),
    Rule(
        "zip.program",
        HIGH,
        FLAGGED,
        "The archive has a program that Python runs when it is given the archive.",
    ),
    Rule(
        "zip.unsafe_path",
        HIGH,
        FLAGGED,
        "A member's name, or a link, leads out of the folder that the archive is unpacked into.",
    ),
)
