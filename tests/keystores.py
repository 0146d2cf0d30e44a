"""The key stores that tests sign and seal with: SoftHSM, and AWS KMS as moto plays it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from keepstone.identity.keystores.reference import TokenAccess

PIN = "4711-secret"
_MODULES = (
    "/usr/lib/softhsm/libsofthsm2.so",
    "/usr/lib/x86_64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib/aarch64-linux-gnu/softhsm/libsofthsm2.so",
    "/usr/lib64/pkcs11/libsofthsm2.so",
)


@dataclass(frozen=True)
class SoftHsm:
    module: Path
    configuration: Path

    @classmethod
    def make(cls, util: str, folder: Path) -> SoftHsm:
        tokens = folder / "tokens"
        tokens.mkdir()
        configuration = folder / "softhsm2.conf"
        configuration.write_text(f"directories.tokendir = {tokens}\nlog.level = ERROR\n")
        os.environ["SOFTHSM2_CONF"] = str(configuration)
        for label in ("keepstone", "twin", "twin"):
            subprocess.run(
                [
                    util,
                    "--init-token",
                    "--free",
                    "--label",
                    label,
                    "--so-pin",
                    "0815",
                    "--pin",
                    PIN,
                ],
                check=True,
                capture_output=True,
            )
        module = next(Path(path) for path in _MODULES if Path(path).exists())
        return cls(module, configuration)

    @property
    def access(self) -> TokenAccess:
        return TokenAccess(PIN, self.module)

    @property
    def environment(self) -> dict[str, str]:
        return {
            "KEEPSTONE_PIN": PIN,
            "KEEPSTONE_PKCS11_MODULE": str(self.module),
            "SOFTHSM2_CONF": str(self.configuration),
        }

    @contextmanager
    def session(self) -> Iterator[Any]:
        """A session that may write, under the one login that this process has."""
        from keepstone.identity.keystores.pkcs11 import open_session
        from keepstone.identity.keystores.reference import TokenReference

        shared = open_session(TokenReference(token="keepstone", label="x"), self.access)
        with shared.use() as raw, raw.token.open(rw=True) as writing:
            yield writing

    def ec_key(self, label: str, curve: str = "secp256r1", key_id: bytes = b"\x01") -> str:
        """Make a key pair in the token; its URI."""
        from pkcs11 import Attribute, KeyType, Mechanism
        from pkcs11.util.ec import encode_named_curve_parameters

        with self.session() as raw:
            parameters = raw.create_domain_parameters(
                KeyType.EC,
                {Attribute.EC_PARAMS: encode_named_curve_parameters(curve)},
                local=True,
            )
            parameters.generate_keypair(
                mechanism=Mechanism.EC_KEY_PAIR_GEN, store=True, label=label, id=key_id
            )
        return f"pkcs11:token=keepstone;object={label}"

    def aes_key(self, label: str, **template: Any) -> str:
        """Make an AES-256 key in the token; its URI. `extractable=True` lets it be read out."""
        from pkcs11 import Attribute, KeyType

        extractable = template.get("extractable", False)
        with self.session() as raw:
            raw.generate_key(
                KeyType.AES,
                template.get("bits", 256),
                store=True,
                label=label,
                template={Attribute.EXTRACTABLE: extractable, Attribute.SENSITIVE: not extractable},
            )
        return f"pkcs11:token=keepstone;object={label}"


@contextmanager
def kms_server() -> Iterator[str]:
    """Start moto's KMS on a free port of loopback; its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("kms_server.py")), str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        deadline = time.monotonic() + 60
        while True:
            assert process.poll() is None, "moto ended"
            assert time.monotonic() < deadline, "moto does not answer"
            try:
                socket.create_connection(("127.0.0.1", port), 1).close()
                break
            except OSError:
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@dataclass(frozen=True)
class Kms:
    environment: dict[str, str]
    client: Any

    @classmethod
    def at(cls, address: str, monkeypatch: pytest.MonkeyPatch) -> Kms:
        import boto3

        environment = {
            "AWS_ENDPOINT_URL_KMS": address,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_DEFAULT_REGION": "eu-central-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": "/dev/null",
            "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
        }
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return cls(environment, boto3.client("kms"))

    def ec_key(self, spec: str = "ECC_NIST_P256", alias: str | None = None) -> str:
        """Make a signing key; its ARN."""
        made = self.client.create_key(KeyUsage="SIGN_VERIFY", KeySpec=spec)["KeyMetadata"]
        if alias is not None:
            self.client.create_alias(AliasName=f"alias/{alias}", TargetKeyId=made["KeyId"])
        return str(made["Arn"])

    def symmetric_key(self, alias: str | None = None) -> str:
        """Make a key that encrypts; its ARN."""
        # Said, though it is AWS's default: moto then leaves it out of what it answers.
        made = self.client.create_key(KeyUsage="ENCRYPT_DECRYPT")["KeyMetadata"]
        if alias is not None:
            self.client.create_alias(AliasName=f"alias/{alias}", TargetKeyId=made["KeyId"])
        return str(made["Arn"])
