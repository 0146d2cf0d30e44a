"""Rules for pickles."""

from keepstone.scan.rules.rule import CRITICAL, FLAGGED, HIGH, LOW, OPEN, Rule

TABLE = (
    Rule(
        "pickle.ambiguous",
        HIGH,
        FLAGGED,
        "Loaders of pickles differ in what this pickle does.",
    ),
    Rule(
        "pickle.broken",
        LOW,
        OPEN,
        "The pickle breaks off; what came before was looked at.",
    ),
    Rule(
        "pickle.call",
        HIGH,
        FLAGGED,
        "Loading calls, makes or changes something in a way that no framework's own files do.",
    ),
    Rule(
        "pickle.computed_import",
        CRITICAL,
        FLAGGED,
        "Loading the pickle imports a name that is put together while it loads.",
    ),
    Rule(
        "pickle.dangerous_import",
        CRITICAL,
        FLAGGED,
        "Loading the pickle imports a name that is there to run code, open files or the like.",
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
        "Loading the pickle imports a name that no framework's own files are known to need.",
    ),
    Rule(
        "pickle.persistent",
        LOW,
        OPEN,
        "The pickle takes objects or buffers that do not lie in the file.",
    ),
    Rule(
        "pickle.sidecar",
        LOW,
        OPEN,
        "Loading the pickle opens another file, which this verdict does not cover.",
    ),
    Rule(
        "pickle.trailing",
        LOW,
        OPEN,
        "Bytes that are no pickle follow the last one; who reads them is not known.",
    ),
)
