"""Rules for folders, and archives, whose files name one another."""

from keepstone.scan.rules.rule import CRITICAL, FLAGGED, HIGH, MEDIUM, OPEN, Rule

TABLE = (
    Rule(
        "folder.code",
        HIGH,
        FLAGGED,
        "Loading the model runs code that comes with it.",
    ),
    Rule(
        "folder.missing",
        MEDIUM,
        OPEN,
        "The folder names a file that is not in it.",
    ),
    Rule(
        "folder.remote_code",
        HIGH,
        FLAGGED,
        "The folder's configuration makes its loader run code that comes with it.",
    ),
    Rule(
        "folder.runs_at_start",
        CRITICAL,
        FLAGGED,
        "A file has a name that Python runs by itself as soon as the folder is on its path.",
    ),
    Rule(
        "folder.shadow",
        HIGH,
        FLAGGED,
        "A file of the folder takes the place of a module that its loader imports.",
    ),
)
