"""Rules for safetensors and GGUF."""

from keepstone.scan.rules.rule import FLAGGED, HIGH, MEDIUM, OPEN, Rule

TABLE = (
    Rule(
        "gguf.ambiguous",
        HIGH,
        FLAGGED,
        "The file names one key or tensor twice, or nests what readers do not: they differ in"
        " what it means.",
    ),
    Rule(
        "gguf.hidden",
        MEDIUM,
        FLAGGED,
        "Bytes of the file belong to no tensor.",
    ),
    Rule(
        "gguf.malformed",
        MEDIUM,
        FLAGGED,
        "A count, length, type or offset does not fit the file: a reader that trusts it reads or"
        " writes outside of its memory.",
    ),
    Rule(
        "gguf.unknown",
        MEDIUM,
        OPEN,
        "The file has a version or a type of tensor that is not known here.",
    ),
    Rule(
        "metadata.program",
        HIGH,
        FLAGGED,
        "A text that describes the model holds a program.",
    ),
    Rule(
        "safetensors.ambiguous",
        HIGH,
        FLAGGED,
        "The header gives one name twice: readers take different ones.",
    ),
    Rule(
        "safetensors.header_bomb",
        HIGH,
        FLAGGED,
        "The header claims to be larger than the file, or than any model needs.",
    ),
    Rule(
        "safetensors.hidden",
        MEDIUM,
        FLAGGED,
        "Bytes of the file belong to no tensor, or to two.",
    ),
    Rule(
        "safetensors.malformed",
        MEDIUM,
        FLAGGED,
        "The header breaks a rule that the format's own reader holds it to.",
    ),
    Rule(
        "safetensors.unknown",
        MEDIUM,
        OPEN,
        "The header has a type of tensor that is not known here.",
    ),
)
