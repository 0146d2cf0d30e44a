"""S3 for tests: moto on loopback, with buckets, principals, and IAM enforced from then on.

moto lets a COMPLIANCE lock be shortened: what is tried against it proves that we ask for a lock,
never that one holds.
"""

from __future__ import annotations

import json
import secrets
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

REGION = "eu-central-1"
_BASE = {
    "AWS_DEFAULT_REGION": REGION,
    "AWS_EC2_METADATA_DISABLED": "true",
    "AWS_CONFIG_FILE": "/dev/null",
    "AWS_SHARED_CREDENTIALS_FILE": "/dev/null",
}
# What each kind of principal is granted, as docs/explain/stores.md lists it.
READER = ["s3:GetObject", "s3:GetObjectVersion", "s3:ListBucket"]
WRITER = [
    *READER,
    "s3:PutObject",
    "s3:PutObjectRetention",
    "s3:GetObjectRetention",
    "s3:DeleteObject",
    "s3:AbortMultipartUpload",
    "s3:ListBucketMultipartUploads",
    "s3:GetBucketVersioning",
    "s3:GetBucketObjectLockConfiguration",
]
GRANTS = {"admin": ["s3:*"], "reader": READER, "writer": WRITER}


@dataclass(frozen=True)
class Buckets:
    """A running moto with IAM on. `keys` are the access keys of each principal."""

    endpoint: str
    keys: dict[str, tuple[str, str]] = field(default_factory=dict)

    def environment(self, principal: str) -> dict[str, str]:
        key, secret = self.keys[principal]
        return {**_BASE, "AWS_ACCESS_KEY_ID": key, "AWS_SECRET_ACCESS_KEY": secret}

    def be(self, principal: str, monkeypatch: pytest.MonkeyPatch) -> None:
        """Have AWS's own chain find this principal."""
        for name, value in self.environment(principal).items():
            monkeypatch.setenv(name, value)

    def client(self, principal: str = "admin") -> Any:
        import boto3
        from botocore.config import Config

        key, secret = self.keys[principal]
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name=REGION,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
            config=Config(s3={"addressing_style": "path"}),
        )

    def bucket(self, *, versioned: bool = True, lock: bool = False) -> str:
        """A new bucket; its name."""
        name, client = f"keepstone-{secrets.token_hex(4)}", self.client()
        client.create_bucket(
            Bucket=name,
            CreateBucketConfiguration={"LocationConstraint": REGION},
            ObjectLockEnabledForBucket=lock,
        )
        if versioned:
            client.put_bucket_versioning(Bucket=name, VersioningConfiguration={"Status": "Enabled"})
        client.close()
        return name

    def address(self, bucket: str, more: str = "") -> str:
        return f"s3://{bucket}/models?region={REGION}&endpoint={self.endpoint}{more}"

    def everything(self, bucket: str) -> bytes:
        """Every byte of every version, with its key and its metadata."""
        client, found = self.client(), b""
        for item in client.list_object_versions(Bucket=bucket).get("Versions", []):
            got = client.get_object(Bucket=bucket, Key=item["Key"], VersionId=item["VersionId"])
            found += item["Key"].encode() + json.dumps(got["Metadata"]).encode()
            found += got["Body"].read()
        client.close()
        return found


@contextmanager
def buckets() -> Iterator[Buckets]:
    """Start moto on a free port of loopback, with its principals, and IAM on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    endpoint = f"http://127.0.0.1:{port}"
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
        found = Buckets(endpoint, {name: _principal(endpoint, name) for name in GRANTS})
        # As plain text: what comes as a form is read as one, and the server fails.
        enforce = urllib.request.Request(
            f"{endpoint}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}
        )
        urllib.request.urlopen(enforce).close()
        yield found
    finally:
        process.kill()
        process.wait()


def _principal(endpoint: str, name: str) -> tuple[str, str]:
    import boto3

    iam = boto3.client(
        "iam",
        endpoint_url=endpoint,
        region_name=REGION,
        aws_access_key_id="root",
        aws_secret_access_key="root",
    )
    iam.create_user(UserName=name)
    policy = {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": GRANTS[name], "Resource": "*"}],
    }
    iam.put_user_policy(UserName=name, PolicyName=name, PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName=name)["AccessKey"]
    iam.close()
    return key["AccessKeyId"], key["SecretAccessKey"]
