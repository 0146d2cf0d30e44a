"""`keepstone scan image`: exit statuses, outputs, and registries that lie or refuse."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from keepstone.cli.main import run
from keepstone.identity.signing import SigningKey, write_secret_file
from tests.registry import PASSWORD, USER, LocalRegistry, docker_registry
from tests.scan.imaging import Made, file, image, tar
from tests.scan.judging import sarif_schema
from tests.scan.osv_records import before, record, write_folder

Result = tuple[int, str, str]
BASED = {"org.opencontainers.image.base.digest": "sha256:" + "b" * 64}
SIX = file("opt/six-1.16.0.dist-info/METADATA", b"Name: six\nVersion: 1.16.0\n")


@pytest.fixture
def scan(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    def call(*arguments: object) -> Result:
        capsys.readouterr()
        status = run(["scan", "image", *map(str, arguments)])
        said = capsys.readouterr()
        return status, said.out, said.err

    return call


def clean() -> Made:
    return image(tar(SIX), manifest={"annotations": BASED})


def osv(root: Path, *versions: str) -> Path:
    now = datetime.fromtimestamp(time.time(), UTC).isoformat()
    records = [
        record(f"CVE-{number}", before(version, "six"), modified=now)
        for number, version in enumerate(versions)
    ]
    write_folder(root, records)
    return root


def test_exit_statuses(tmp_path: Path, scan: Callable[..., Result]) -> None:
    root = clean().write(tmp_path / "clean")
    fixed, broken = osv(tmp_path / "old", "1.0"), osv(tmp_path / "new", "2.0")
    assert scan(root, "--osv", fixed)[0] == 0
    assert scan(root, "--no-vulnerabilities")[0] == 0
    assert scan(root)[0] == 3
    assert scan(root, "--osv", broken)[0] == 1
    assert scan(image(tar(SIX)).write(tmp_path / "based"), "--no-vulnerabilities")[0] == 3
    assert scan(tmp_path / "based", "--no-vulnerabilities", "--no-base")[0] == 0
    rooted = Made(config={}).write(tmp_path / "rooted")
    # What is flagged wins over what nobody knows.
    assert scan(rooted)[0] == 1
    assert scan(tmp_path / "gone")[0] == 2
    assert scan(root, "--platform", "plan9/mips")[0] == 2
    assert scan(root, "--osv", tmp_path / "gone")[0] == 2


def test_a_waived_vulnerability_is_told_and_does_not_count(
    tmp_path: Path, scan: Callable[..., Result]
) -> None:
    root, broken = clean().write(tmp_path / "clean"), osv(tmp_path / "osv", "2.0")
    key, public, waivers = (tmp_path / name for name in ("key.pem", "key.pub.pem", "waivers"))
    signer = SigningKey.generate()
    write_secret_file(key, signer.to_pem())
    public.write_bytes(signer.verifying.pem)
    waive = ["waive", "six", "--advisory", "CVE-0", "--reason", "not reachable", "--as", key]
    assert run([*map(str, waive), "--expires", "30d", "--into", str(waivers)]) == 0
    asked = (root, "--osv", broken, "--waivers", waivers, "--format", "json")
    status, out, _ = scan(*asked, "--waiver-key", public)
    found = json.loads(out)["images"][0]
    assert (status, found["verdict"], found["findings"]) == (0, "clean", [])
    assert "not reachable" in found["told"][0]["message"]
    # Without the key of who signed it, it waives nothing, and that is said.
    status, out, told = scan(*asked)
    assert (status, json.loads(out)["images"][0]["told"]) == (1, [])
    assert "waives nothing" in told


def test_json_says_what_was_judged(tmp_path: Path, scan: Callable[..., Result]) -> None:
    made = image(tar(SIX, file("bin/a", mode=0o4755)), tar(file("bin/.wh.b", b"")))
    root = made.write(tmp_path / "image")
    status, out, _ = scan(root, "--osv", osv(tmp_path / "osv", "2.0"), "--format", "json")
    document = json.loads(out)
    assert (status, document["schema"], document["verdict"]) == (
        1,
        "keepstone.scan-image/v1",
        "flagged",
    )
    (found,) = document["images"]
    index = json.loads((root / "index.json").read_text())
    assert found["digest"] == index["manifests"][0]["digest"]
    assert [layer["evaluated"] for layer in found["layers"]] == [True, True, True]
    assert [one["name"] for one in found["packages"]] == ["six"]
    assert found["osv"]["records"] == 1
    by_rule = {one["rule"]: one for one in found["findings"]}
    setuid = by_rule["image.setuid"]
    assert setuid["layer"] == found["layers"][1]["digest"]
    assert (setuid["path"], setuid["layer_number"]) == ("bin/a", 2)
    vulnerable = next(one for rule, one in by_rule.items() if rule.startswith("deps."))
    assert vulnerable["layer"] == found["layers"][1]["digest"]
    assert [one["rule"] for one in found["not_evaluated"]] == ["image.base_unknown"]


def test_text_and_sarif_say_the_same(tmp_path: Path, scan: Callable[..., Result]) -> None:
    import jsonschema

    root = image(tar(file("bin/a", mode=0o4755))).write(tmp_path / "image")
    status, out, _ = scan(root)
    assert status == 1
    assert "image.setuid: bin/a: " in out
    status, out, _ = scan(root, "--format", "sarif")
    document: Any = json.loads(out)
    jsonschema.validate(document, sarif_schema())
    (result,) = [
        item for item in document["runs"][0]["results"] if item["ruleId"] == "image.setuid"
    ]
    (location,) = result["locations"]
    assert location["physicalLocation"]["artifactLocation"]["uri"] == "bin/a"
    assert location["logicalLocations"][0]["name"].startswith("sha256:")


@pytest.fixture
def registry(need: Callable[[str, str], str], tmp_path: Path) -> Iterator[LocalRegistry]:
    folder = tmp_path / "registry"
    folder.mkdir()
    with docker_registry(need("docker-registry", "serve images"), folder) as running:
        yield running


@pytest.mark.loopback
def test_a_registry_that_serves_other_bytes_is_not_believed(
    registry: LocalRegistry,
    need: Callable[[str, str], str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    scan: Callable[..., Result],
) -> None:
    skopeo = need("skopeo", "push an image")
    made = clean()
    root = made.write(tmp_path / "image")
    place = f"{registry.host}/team/app:1"
    login = ["--dest-tls-verify=false", "--dest-creds", f"{USER}:{PASSWORD}"]
    words = [skopeo, "copy", "-q", *login, f"oci:{root}", f"docker://{place}"]
    subprocess.run(words, check=True)
    asked = (place, "--no-vulnerabilities")
    # Without the login the registry says no, and nothing was decided.
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "none.json"))
    (tmp_path / "none.json").write_text('{"auths": {}}')
    assert scan(*asked)[0] == 3
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(registry.auth_file))
    assert scan(*asked)[0] == 0
    assert scan(f"{registry.host}/team/gone:1")[0] == 2
    # skopeo packs layers anew: every blob but the documents is one.
    for path in registry.folder.rglob("blobs/sha256/*/*/data"):
        if path.read_bytes()[:2] == b"\x1f\x8b":
            path.write_bytes(path.read_bytes()[:-1] + b"\x7f")
    status, out, _ = scan(*asked)
    assert status == 1
    assert "image.blob_differs" in out
