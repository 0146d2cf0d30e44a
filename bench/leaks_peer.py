"""detect-secrets, asked about one file after another; runs in its own environment.

Reads a path a line and answers with a line of JSON: the path and the lines on which it sees a
secret. Its plugins and filters are those of its own command, without asking any service.
"""

from __future__ import annotations

import json
import sys

from detect_secrets.core.secrets_collection import SecretsCollection  # type: ignore[import-not-found]
from detect_secrets.settings import default_settings  # type: ignore[import-not-found]


def main() -> None:
    with default_settings():
        for line in sys.stdin:
            path = line.rstrip("\n")
            found = SecretsCollection()
            found.scan_file(path)
            lines = [secret.line_number for _, secret in found]
            print(json.dumps({"path": path, "lines": lines}), flush=True)


if __name__ == "__main__":
    main()
