"""The registry client against a real registry, with a login: what goes in comes out, verified."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from keepstone.core.digest import Digest
from keepstone.errors import InputError, OperationalError
from keepstone.vault.stores.oci import upload as upload_module
from keepstone.vault.stores.oci.logins import Login
from keepstone.vault.stores.oci.manifest import EMPTY_CONFIG, IMAGE_MANIFEST
from keepstone.vault.stores.oci.reference import Reference
from keepstone.vault.stores.oci.registry import Registry, open_registry
from tests.registry import PASSWORD, USER, LocalRegistry, docker_registry

pytestmark = pytest.mark.loopback
KIND = "application/vnd.example.thing"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRegistry]:
    from tests.conftest import _find

    program = _find("docker-registry", "push to and pull from a real registry")
    with docker_registry(program, tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def registry(place: LocalRegistry) -> Iterator[Registry]:
    with Registry({place.host: Login(USER, PASSWORD)}) as client:
        yield client


def artifact(registry: Registry, reference: Reference, data: bytes, **more: object) -> Digest:
    """Push one layer and a manifest around it under the reference's tag."""
    layer = registry.push(reference, data, KIND)
    document = {
        "schemaVersion": 2,
        "mediaType": IMAGE_MANIFEST,
        "artifactType": KIND,
        "config": registry.push_empty_config(reference).to_dict(),
        "layers": [layer.to_dict()],
        **more,
    }
    return registry.push_manifest(reference, document, tag=reference.tag).digest


def test_what_was_pushed_is_pulled(place: LocalRegistry, registry: Registry) -> None:
    reference = Reference.parse(f"{place.host}/team/thing:one")
    data = os.urandom(100_000)
    assert registry.tags(reference) == []
    assert registry.find(reference) is None
    digest = artifact(registry, reference, data)
    assert registry.find(reference) == digest
    for named in (reference, reference.at(digest)):
        manifest = registry.manifest(named)
        assert (manifest.digest, manifest.artifact_type) == (digest, KIND)
        assert manifest.config == EMPTY_CONFIG
    layer = manifest.layers[0]
    taken: list[bytes] = []
    assert registry.blob(reference, layer.digest, taken.append, size=layer.size) == len(data)
    assert b"".join(taken) == data
    assert registry.has_blob(reference, layer.digest)
    assert registry.tags(reference) == ["one"]
    registry.delete_manifest(reference, digest)
    assert registry.find(reference) is None
    registry.delete_manifest(reference, digest)


def test_a_large_blob_goes_in_pieces(
    place: LocalRegistry, registry: Registry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upload_module, "UPLOAD_PIECE", 1 << 16)
    reference = Reference.parse(f"{place.host}/team/large")
    data = os.urandom((1 << 18) + 17)
    with registry.upload(reference) as upload:
        for start in range(0, len(data), 50_000):
            upload.write(memoryview(data)[start : start + 50_000])
        digest, size = upload.finish()
    assert (digest, size) == (Digest.of(data), len(data))
    taken: list[bytes] = []
    registry.blob(reference, digest, taken.append, size=size)
    assert b"".join(taken) == data


def test_an_upload_that_is_not_finished_leaves_no_blob(
    place: LocalRegistry, registry: Registry
) -> None:
    reference, data = Reference.parse(f"{place.host}/team/half"), os.urandom(1000)

    def half() -> None:
        with registry.upload(reference) as upload:
            upload.write(memoryview(data))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert not registry.has_blob(reference, Digest.of(data))


def test_referrers_are_found_by_the_tag_that_stands_in(
    place: LocalRegistry, registry: Registry
) -> None:
    reference = Reference.parse(f"{place.host}/team/signed:v1")
    digest = artifact(registry, reference, b"image")
    assert registry.referrers(reference, digest) == []
    subject = registry.manifest(reference).descriptor.to_dict()
    unnamed = Reference.parse(f"{place.host}/team/signed")
    first = artifact(registry, unnamed, b"signature", subject=subject)
    second = artifact(registry, unnamed, b"sbom", subject=subject)
    artifact(registry, unnamed, b"sbom", subject=subject)
    found = registry.referrers(reference, digest)
    assert [one.digest for one in found] == [first, second]
    assert registry.referrers(reference, digest, "another/type") == []
    assert len(registry.referrers(reference, digest, KIND)) == 2


def test_nobody_without_a_login_gets_anything(place: LocalRegistry) -> None:
    reference = Reference.parse(f"{place.host}/team/thing:one")
    for logins in ({}, {place.host: Login(USER, "wrong")}, {"127.0.0.1": Login(USER, PASSWORD)}):
        with Registry(logins) as client:
            for action in (client.manifest, client.tags, client.find):
                with pytest.raises(OperationalError) as caught:
                    action(reference)
                assert caught.value.code == "oci.denied"
                assert PASSWORD not in str(caught.value)


def test_the_login_comes_from_the_file_that_docker_keeps(place: LocalRegistry) -> None:
    with open_registry({"REGISTRY_AUTH_FILE": str(place.auth_file)}) as client:
        assert client.tags(Reference.parse(f"{place.host}/team/nothing")) == []


def test_what_is_not_there_is_missing(place: LocalRegistry, registry: Registry) -> None:
    reference = Reference.parse(f"{place.host}/team/nothing:here")
    with pytest.raises(InputError, match=r"oci\.missing"):
        registry.manifest(reference)
    with pytest.raises(InputError, match=r"oci\.missing"):
        registry.blob(reference, Digest.of(b"nothing"), lambda piece: None)
    assert not registry.has_blob(reference, Digest.of(b"nothing"))


def test_a_registry_without_deletes_says_so(tmp_path: Path, need: Callable[..., str]) -> None:
    program = need("docker-registry", "push to and pull from a real registry")
    with (
        docker_registry(program, tmp_path, delete=False) as place,
        Registry({place.host: Login(USER, PASSWORD)}) as client,
    ):
        reference = Reference.parse(f"{place.host}/a/b:c")
        digest = artifact(client, reference, b"data")
        with pytest.raises(OperationalError, match=r"oci\.no_delete"):
            client.delete_manifest(reference, digest)
        assert client.find(reference) == digest
