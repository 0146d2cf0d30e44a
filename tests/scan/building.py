"""Images built by the tools that people build them with, out of files of this machine."""

from __future__ import annotations

import importlib.metadata
import os
import pickle
import re
import shutil
import subprocess
import zlib
from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from keepstone.scan.secrets.checks import base62
from tests.scan.judging import Payload

BASE = "org.opencontainers.image.base."
_STATUS = Path("/var/lib/dpkg/status")
# Real packages of this environment, whose metadata an image holds too.
PIP = ("click", "numpy", "PyYAML")
# Enough of them to be a distribution.
_STANZAS = 60


def token() -> str:
    """A GitHub token by its checksum; nobody has it."""
    body = "Tq3Zx8Lw2Vn6Rb1Yc5Md9Kp4Hs7Gj0"
    return f"ghp_{body}{base62(zlib.crc32(body.encode()))}"


def private_key() -> bytes:
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def clean_tree(root: Path) -> Path:
    """A root file system with packages of dpkg and pip, an honest pickle, and a shell."""
    for folder in ("bin", "etc", "opt/model", "srv", "tmp", "var/lib/dpkg"):
        (root / folder).mkdir(parents=True)
    (root / "tmp").chmod(0o1777)
    (root / "etc/passwd").write_text("root:x:0:0::/:/bin/sh\napp:x:1000:1000::/:/bin/sh\n")
    shutil.copy("/etc/os-release", root / "etc/os-release")
    stanzas = _STATUS.read_text("utf-8").split("\n\n")[:_STANZAS]
    (root / "var/lib/dpkg/status").write_text("\n\n".join(stanzas) + "\n\n", "utf-8")
    for name in PIP:
        _metadata(root, importlib.metadata.distribution(name))
    (root / "opt/model/honest.pkl").write_bytes(pickle.dumps({"weights": [0.5, 1.5]}))
    for program in ("sh", "rm", "chmod"):
        _program(root, program)
    return root


def whole_machine(root: Path) -> Path:
    """The lists of packages of this machine and of this environment, all of them."""
    for folder in ("etc", "var/lib/dpkg"):
        (root / folder).mkdir(parents=True)
    shutil.copy("/etc/os-release", root / "etc/os-release")
    shutil.copy(_STATUS, root / "var/lib/dpkg/status")
    for found in importlib.metadata.distributions():
        _metadata(root, found)
    return root


def _metadata(root: Path, found: importlib.metadata.Distribution) -> None:
    """What pip knows of an installed package."""
    listed = [file for file in found.files or () if file.parent.name.endswith(".dist-info")]
    for file in listed:
        if file.name in ("METADATA", "RECORD"):
            target = root / "opt/app/lib/python3.11/site-packages" / file
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(found.locate_file(file), target)  # type: ignore[arg-type]


def _program(root: Path, name: str) -> None:
    """A program of this machine with its libraries, so that it runs in the image."""
    found = shutil.which(name)
    assert found is not None
    shutil.copy(found, root / "bin" / name)
    listed = subprocess.run(["ldd", found], capture_output=True, text=True, check=True).stdout
    for word in listed.split():
        if word.startswith("/"):
            (root / word[1:]).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(word, root / word[1:])


def plant(root: Path) -> Path:
    """Put into a clean tree what has no place in an image."""
    (root / "root/.ssh").mkdir(parents=True)
    (root / "root/.ssh/id").write_bytes(private_key())
    (root / "etc/app.conf").write_text(f"[github]\ntoken = {token()}\n")
    (root / "opt/model/evil.pkl").write_bytes(pickle.dumps(Payload(), 2))
    shutil.copy("/bin/true", root / "bin/asroot")
    (root / "bin/asroot").chmod(0o4755)
    (root / "srv/drop").mkdir()
    (root / "srv/drop").chmod(0o777)
    (root / "srv/notes").write_text("everybody\n")
    (root / "srv/notes").chmod(0o666)
    return root


@dataclass(frozen=True, slots=True)
class Umoci:
    """A layout that umoci makes."""

    program: str
    layout: Path

    def run(self, command: str, *arguments: str) -> None:
        words = [self.program, command, *arguments]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr

    def build(self, tag: str, tree: Path, *config: str, whiteout: str = "") -> str:
        """An image with a layer for each top folder of `tree`; its reference."""
        name = f"{self.layout}:{tag}"
        if not self.layout.exists():
            self.run("init", "--layout", str(self.layout))
        self.run("new", "--image", name)
        for folder in sorted(tree.iterdir()):
            self.run("insert", "--image", name, str(folder), f"/{folder.name}")
        if whiteout:
            self.run("insert", "--image", name, "--whiteout", whiteout)
        self.run("config", "--image", name, *config)
        return name


@dataclass(frozen=True, slots=True)
class Buildah:
    """buildah with a store of its own, and no daemon."""

    program: str
    store: Path

    def run(self, command: str, *arguments: str) -> str:
        places = ["--root", str(self.store / "root"), "--runroot", str(self.store / "run")]
        words = [self.program, *places, "--storage-driver", "vfs", command, *arguments]
        settings = {**os.environ, "TMPDIR": str(self.store)}
        done = subprocess.run(words, capture_output=True, text=True, check=False, env=settings)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def build(self, tag: str, folder: Path, *steps: str, arguments: tuple[str, ...] = ()) -> None:
        """Build a Containerfile of `steps` in `folder`, one layer per step."""
        (folder / "Containerfile").write_text("\n".join(steps) + "\n")
        given = [word for one in arguments for word in ("--build-arg", one)]
        self.run("bud", "--isolation", "chroot", "--layers", *given, "-t", tag, str(folder))


def purl_names(document: dict[str, object]) -> set[tuple[str, str, str]]:
    """Type, name and version of every package in a CycloneDX document of syft's."""
    from urllib.parse import unquote

    found = set()
    for item in document.get("components", []):  # type: ignore[attr-defined]
        purl = item.get("purl", "")
        if not purl:
            continue
        kind, _, rest = purl.removeprefix("pkg:").partition("/")
        name, _, version = unquote(rest.partition("?")[0]).rpartition("@")
        found.add((kind, plain(name.rpartition("/")[2]), version))
    return found


def plain(name: str) -> str:
    """A name as indexes compare it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()
