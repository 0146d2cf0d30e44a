"""Rules for tar archives."""

from keepstone.scan.rules.rule import FLAGGED, HIGH, Rule

TABLE = (
    Rule(
        "tar.ambiguous",
        HIGH,
        FLAGGED,
        "The archive names one member twice, or says two things about one: readers take"
        " different files.",
    ),
    Rule(
        "tar.device",
        HIGH,
        FLAGGED,
        "A member is a device, a pipe or a file of special rights: unpacking makes one.",
    ),
    Rule(
        "tar.link",
        HIGH,
        FLAGGED,
        "A member is a link that leads out of the archive, or that others are written through.",
    ),
    Rule(
        "tar.unsafe_path",
        HIGH,
        FLAGGED,
        "A member's name leads out of the folder that the archive is unpacked into.",
    ),
)
