"""Rules for 7z archives."""

from keepstone.scan.rules.rule import FLAGGED, HIGH, Rule

TABLE = (
    Rule(
        "sevenzip.ambiguous",
        HIGH,
        FLAGGED,
        "The archive names one member twice, or says two things about one: readers take"
        " different files.",
    ),
    Rule(
        "sevenzip.bomb",
        HIGH,
        FLAGGED,
        "The archive unpacks to thousands of times its size.",
    ),
    Rule(
        "sevenzip.unsafe_path",
        HIGH,
        FLAGGED,
        "A member's name, or a link among the members, leads out of the folder that the archive"
        " is unpacked into.",
    ),
)
