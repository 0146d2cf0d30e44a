"""Rules for text: configuration, notebooks, requirements, source."""

from keepstone.scan.rules.rule import CRITICAL, FLAGGED, HIGH, LOW, MEDIUM, OPEN, Rule

TABLE = (
    Rule(
        "code.decoded",
        CRITICAL,
        FLAGGED,
        "The code runs what it first decodes, decompresses or fetches.",
    ),
    Rule(
        "code.dynamic",
        HIGH,
        FLAGGED,
        "The code runs a text as code.",
    ),
    Rule(
        "code.connection",
        MEDIUM,
        FLAGGED,
        "The code opens a connection of its own, below any protocol.",
    ),
    Rule(
        "code.hidden_name",
        CRITICAL,
        FLAGGED,
        "The code puts the name of what it calls together, so that nobody reads it.",
    ),
    Rule(
        "code.native",
        HIGH,
        FLAGGED,
        "The code loads native code.",
    ),
    Rule(
        "code.network_shell",
        CRITICAL,
        FLAGGED,
        "The code ties a shell or a program to a connection.",
    ),
    Rule(
        "code.not_judged",
        LOW,
        OPEN,
        "The file is source code. Code is not judged, beyond what is flagged.",
    ),
    Rule(
        "code.process",
        HIGH,
        FLAGGED,
        "The code starts a process or a shell.",
    ),
    Rule(
        "code.reach",
        HIGH,
        FLAGGED,
        "The code touches files that let others in, or sends away what it finds around it.",
    ),
    Rule(
        "config.ambiguous",
        HIGH,
        FLAGGED,
        "The file says one key twice: readers differ in which one they take.",
    ),
    Rule(
        "config.attack",
        CRITICAL,
        FLAGGED,
        "A value holds code for a shell, for Python or for another host to run.",
    ),
    Rule(
        "config.bomb",
        HIGH,
        FLAGGED,
        "The file is small and unfolds to more than its reader can hold, or keeps it busy for"
        " ever.",
    ),
    Rule(
        "config.lambda",
        CRITICAL,
        FLAGGED,
        "The configuration carries a function's code for its loader to run.",
    ),
    Rule(
        "config.loader",
        CRITICAL,
        FLAGGED,
        "The configuration names code that reaches the machine, for its loader to call.",
    ),
    Rule(
        "config.path",
        HIGH,
        FLAGGED,
        "The configuration names a file outside of its folder.",
    ),
    Rule(
        "config.quoted_code",
        MEDIUM,
        OPEN,
        "A text that nothing is known to run holds what could be run.",
    ),
    Rule(
        "config.remote_code",
        HIGH,
        FLAGGED,
        "The configuration makes its loader run code that comes with the model or from elsewhere.",
    ),
    Rule(
        "config.tag",
        CRITICAL,
        FLAGGED,
        "A YAML tag names code, or an object of a class, for the reader to make.",
    ),
    Rule(
        "config.unknown_loader",
        MEDIUM,
        OPEN,
        "The configuration names a class or function that nothing is known of, for its loader to"
        " import.",
    ),
    Rule(
        "config.unknown_tag",
        LOW,
        OPEN,
        "A YAML tag means what its reader makes of it.",
    ),
    Rule(
        "file.program",
        HIGH,
        FLAGGED,
        "The file is a program or a script: nothing that loads a model needs one.",
    ),
    Rule(
        "notebook.active_output",
        HIGH,
        FLAGGED,
        "An output of the notebook holds script that runs when the notebook is opened.",
    ),
    Rule(
        "notebook.shell",
        MEDIUM,
        OPEN,
        "A cell runs an ordinary command of the shell, which is not judged.",
    ),
    Rule(
        "notebook.shell_attack",
        CRITICAL,
        FLAGGED,
        "A cell runs a command of the shell that no ordinary notebook needs.",
    ),
    Rule(
        "requirements.elsewhere",
        HIGH,
        FLAGGED,
        "A requirement is installed from an address, a path or an index of the file's own choice.",
    ),
    Rule(
        "requirements.not_judged",
        LOW,
        OPEN,
        "A requirement is installed from a repository's exact commit, which is not judged.",
    ),
)
