"""Rules for torch's archives."""

from keepstone.scan.rules.rule import CRITICAL, FLAGGED, HIGH, LOW, MEDIUM, OPEN, Rule

TABLE = (
    Rule(
        "torch.ambiguous",
        HIGH,
        FLAGGED,
        "Members lie where torch and other readers of the archive look for different things.",
    ),
    Rule(
        "torch.custom_operator",
        MEDIUM,
        FLAGGED,
        "The program needs operators or classes of another library, which are not in the file.",
    ),
    Rule(
        "torch.expression",
        CRITICAL,
        FLAGGED,
        "Loading the program evaluates a text that is no plain arithmetic.",
    ),
    Rule(
        "torch.malformed",
        LOW,
        OPEN,
        "The archive lacks, or breaks, what torch's loader needs.",
    ),
    Rule(
        "torch.native_code",
        HIGH,
        FLAGGED,
        "The archive brings native code, which loading runs.",
    ),
    Rule(
        "torch.operator",
        HIGH,
        FLAGGED,
        "The program calls what reaches out of it, or what torch does not define.",
    ),
)
