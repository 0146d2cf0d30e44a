"""An OCI registry for tests: Debian's `docker-registry` on loopback, with logins and deletes."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

USER, PASSWORD = "ci", "s3cret-of-the-registry"
# bcrypt of PASSWORD: htpasswd takes no other kind.
_HTPASSWD = "$2y$05$abcdefghijklmnopqrstuuW1e3orFpi1hSyUIjjQsvB7886Cb.S5."
_CONFIGURATION = """\
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}, delete: {{enabled: {delete}}}}}
http: {{addr: "127.0.0.1:{port}", secret: for-tests}}
auth: {{htpasswd: {{realm: keepstone-tests, path: {passwords}}}}}
"""


@dataclass(frozen=True)
class LocalRegistry:
    """A running registry: its `host:port`, and the folder that it keeps everything in."""

    host: str
    folder: Path

    @property
    def auth_file(self) -> Path:
        """A file of logins, as docker keeps it."""
        return self.folder / "auth.json"


@contextmanager
def docker_registry(program: str, folder: Path, *, delete: bool = True) -> Iterator[LocalRegistry]:
    """Start `docker-registry` on a free port of loopback, and end it."""
    import base64
    import json

    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    passwords, configuration = folder / "htpasswd", folder / "registry.yml"
    passwords.write_text(f"{USER}:{_HTPASSWD}\n")
    configuration.write_text(
        _CONFIGURATION.format(
            root=folder / "data", port=port, passwords=passwords, delete=str(delete).lower()
        )
    )
    host = f"127.0.0.1:{port}"
    pair = base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
    (folder / "auth.json").write_text(json.dumps({"auths": {host: {"auth": pair}}}))
    with (folder / "registry.log").open("wb") as log:
        process = subprocess.Popen([program, "serve", str(configuration)], stdout=log, stderr=log)
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, (folder / "registry.log").read_text()
            assert time.monotonic() < deadline, "the registry does not answer"
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield LocalRegistry(host, folder)
    finally:
        process.kill()
        process.wait()
