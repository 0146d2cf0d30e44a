"""Rules for pickles."""

from keepstone.scan.rules.rule import CRITICAL, FLAGGED, HIGH, LOW, OPEN, Rule

TABLE = (
    Rule(
        "pickle.broken",
        LOW,
        OPEN,
        "The pickle breaks off; what came before was looked at.",
    ),
    Rule(
        "pickle.computed_import",
        CRITICAL,
        FLAGGED,
        "Loading the pickle imports a name that is put together while it loads.",
    ),
    Rule(
        "pickle.data_only",
        LOW,
        OPEN,
        "The pickle imports nothing; the checks that could call it clean are not here yet.",
    ),
    Rule(
        "pickle.extension",
        CRITICAL,
        FLAGGED,
        "Loading the pickle calls what the process has registered under a number.",
    ),
    Rule(
        "pickle.import",
        HIGH,
        FLAGGED,
        "Loading the pickle imports this name, and so may run it.",
    ),
)
