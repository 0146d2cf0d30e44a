"""Archives of images, made by hand: both kinds, what readers differ in, and what is no archive."""

from __future__ import annotations

import gzip
import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from keepstone.core.finding import Outcome
from keepstone.errors import InputError
from tests.scan.imaging import (
    CONFIG,
    INDEX,
    Made,
    Member,
    diff_id,
    dumped,
    file,
    findings,
    image,
    only,
    reasons,
    rules,
    scanned,
    symlink,
    tar,
)


def oci_members(made: Made, root: Path) -> list[Member]:
    """A layout's files, as members of an archive."""
    made.write(root)
    found = sorted(path for path in root.rglob("*") if path.is_file())
    return [file(str(path.relative_to(root)), path.read_bytes()) for path in found]


def docker_members(made: Made, **changes: Any) -> list[Member]:
    """What `docker save` writes."""
    manifest = json.loads(made.blobs[made.described()["digest"]])
    config = manifest["config"]["digest"].partition(":")[2]
    layers = [file(f"{number}/layer.tar", data) for number, data in enumerate(made.layers)]
    listed = {
        "Config": f"{config}.json",
        "RepoTags": ["team/app:1"],
        "Layers": [info.name for info, _ in layers],
        **changes,
    }
    return [
        file(f"{config}.json", made.blobs[f"sha256:{config}"]),
        *layers,
        file("manifest.json", dumped([listed])),
    ]


def written(path: Path, members: list[Member]) -> Path:
    path.write_bytes(tar(*members))
    return path


@pytest.fixture
def made() -> Made:
    return image(tar(file("bin/a", mode=0o4755)))


def test_both_kinds_hold_the_same_image(tmp_path: Path, made: Made) -> None:
    oci = scanned(written(tmp_path / "oci.tar", oci_members(made, tmp_path / "l")))
    docker = scanned(written(tmp_path / "docker.tar", docker_members(made)))
    assert rules(oci) == rules(docker) == {"image.setuid"}
    assert only(oci).config == only(docker).config
    assert only(docker).tags == ("team/app:1",)
    assert only(docker).digest == ""


def test_one_image_is_chosen_by_its_name(tmp_path: Path, made: Made) -> None:
    path = written(tmp_path / "docker.tar", docker_members(made))
    assert only(scanned(f"{path}:team/app:1")).tags == ("team/app:1",)
    with pytest.raises(InputError) as caught:
        scanned(f"{path}:other")
    assert caught.value.code == "image.none_chosen"
    root = made.write(
        tmp_path / "two",
        *(
            made.described(annotations={"org.opencontainers.image.ref.name": name})
            for name in ("one", "two")
        ),
    )
    assert len(scanned(root).images) == 2
    assert only(scanned(f"{root}:two")).tags == ("two",)


def test_a_platform_is_chosen(tmp_path: Path, made: Made) -> None:
    root = made.write(tmp_path / "l")
    assert len(scanned(root, platform="linux/amd64").images) == 1
    with pytest.raises(InputError) as caught:
        scanned(root, platform="linux/arm64")
    assert caught.value.code == "image.none_chosen"


def test_a_platform_is_chosen_by_the_index_where_it_says_one(tmp_path: Path) -> None:
    """Configurations often leave the variant out."""
    arm, amd = image(), image(tar(file("a")))
    arm.document = {"architecture": "arm64"}
    told = [
        arm.described(platform={"os": "linux", "architecture": "arm64", "variant": "v8"}),
        amd.described(platform={"os": "linux", "architecture": "amd64"}),
    ]
    arm.blobs |= amd.blobs
    inner = arm.blob(dumped({"schemaVersion": 2, "manifests": told}), INDEX)
    root = arm.write(tmp_path, inner)
    assert len(scanned(root).images) == 2
    for wanted in ("linux/arm64", "linux/arm64/v8"):
        assert only(scanned(root, platform=wanted)).platform == "linux/arm64"
    assert scanned(root).outcome is Outcome.CLEAN


def test_a_docker_archives_layers_are_held_to_the_configuration(tmp_path: Path, made: Made) -> None:
    members = docker_members(made)
    members[2] = file("1/layer.tar", tar(file("bin/a")))
    report = scanned(written(tmp_path / "d.tar", members))
    assert rules(report) == {"image.blob_differs"}


def test_a_docker_archives_configuration_is_held_to_its_name(tmp_path: Path, made: Made) -> None:
    members = docker_members(made)
    members[0] = file(members[0][0].name, members[0][1] + b" ")
    report = scanned(written(tmp_path / "d.tar", members))
    assert rules(report) == {"image.blob_differs"}


def test_a_layer_behind_a_link_in_the_archive_is_found(tmp_path: Path, made: Made) -> None:
    members = docker_members(made)
    members[2] = file("real.tar", made.layers[1])
    members.append(symlink("1/layer.tar", "../real.tar"))
    assert rules(scanned(written(tmp_path / "d.tar", members))) == {"image.setuid"}


@pytest.mark.parametrize("target", ["../../../etc/passwd", "/etc/passwd", "layer.tar", "gone"])
def test_a_layer_behind_a_link_out_or_in_circles_is_missing(
    tmp_path: Path, made: Made, target: str
) -> None:
    members = docker_members(made)
    members[2] = symlink("1/layer.tar", target)
    report = scanned(written(tmp_path / "d.tar", members))
    assert report.outcome is Outcome.NOT_EVALUATED
    assert "is not there" in reasons(report)


def test_an_archive_that_shows_two_readers_two_images_is_ambiguous(
    tmp_path: Path, made: Made
) -> None:
    oci = oci_members(made, tmp_path / "l")
    both = scanned(written(tmp_path / "same.tar", [*oci, *docker_members(made)]))
    assert rules(both) == {"image.setuid"}
    other = docker_members(image(tar(file("b"))))
    report = scanned(written(tmp_path / "other.tar", [*oci, *other]))
    assert "image.ambiguous" in rules(report)


def test_a_member_that_comes_twice_is_ambiguous(tmp_path: Path, made: Made) -> None:
    members = docker_members(made)
    report = scanned(written(tmp_path / "d.tar", [*members, members[-1]]))
    assert "image.ambiguous" in rules(report)


@pytest.mark.parametrize("both", [False, True])
@pytest.mark.parametrize("name", ["layers", "LAYERS", "config", "repoTags"])
def test_a_name_in_another_case_is_ambiguous_in_a_list(
    tmp_path: Path, made: Made, name: str, both: bool
) -> None:
    members = docker_members(made)
    listed = json.loads(members[-1][1])
    listed[0][name] = []
    members[-1] = file("manifest.json", dumped(listed))
    before = oci_members(made, tmp_path / "l") if both else []
    report = scanned(written(tmp_path / "d.tar", [*before, *members]))
    assert "image.ambiguous" in rules(report)


def test_an_archive_that_breaks_off_is_not_evaluated(tmp_path: Path, made: Made) -> None:
    path = written(tmp_path / "d.tar", docker_members(made))
    whole = path.read_bytes()
    end = whole.rindex(b"manifest.json") + 512
    (tmp_path / "cut.tar").write_bytes(whole[: end + 60])
    with pytest.raises(InputError) as caught:
        scanned(tmp_path / "cut.tar")
    assert caught.value.code == "image.malformed"


@pytest.mark.parametrize(
    "listed",
    [
        b"[1]",
        b'[{"Config": 1, "Layers": []}]',
        b'[{"Config": "../../etc/passwd", "Layers": []}]',
        b'[{"Config": "x.json", "Layers": "none"}]',
        b'[{"Config": "x.json", "Layers": [], "RepoTags": [1]}]',
        b"[]",
    ],
)
def test_an_entry_that_describes_no_image_is_not_evaluated(tmp_path: Path, listed: bytes) -> None:
    path = written(tmp_path / "d.tar", [file("manifest.json", listed)])
    assert scanned(path).outcome is Outcome.NOT_EVALUATED


@pytest.mark.parametrize(
    "listed", [b"{}", b"not json", b'[{"Config": "a", "Config": "b", "Layers": []}]']
)
def test_a_list_that_is_none_is_refused(tmp_path: Path, listed: bytes) -> None:
    path = written(tmp_path / "d.tar", [file("manifest.json", listed)])
    with pytest.raises(InputError) as caught:
        scanned(path)
    assert caught.value.code == "image.malformed"


def test_a_compressed_archive_is_refused_with_the_way_out(tmp_path: Path, made: Made) -> None:
    path = tmp_path / "d.tar.gz"
    path.write_bytes(gzip.compress(tar(*docker_members(made))))
    with pytest.raises(InputError) as caught:
        scanned(path)
    assert caught.value.code == "image.unsupported"
    assert "not compressed" in caught.value.next_step


def test_another_version_of_the_layout_is_refused(tmp_path: Path, made: Made) -> None:
    root = made.write(tmp_path / "l")
    (root / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
    with pytest.raises(InputError) as caught:
        scanned(root)
    assert caught.value.code == "image.unsupported"


def test_an_artifact_that_is_no_image_is_not_evaluated(tmp_path: Path) -> None:
    made = Made()
    told = json.loads(made.blobs[made.described()["digest"]])
    told["config"]["mediaType"] = "application/vnd.oci.empty.v1+json"
    root = made.write(tmp_path, made.blob(dumped(told), told["mediaType"]))
    report = scanned(root)
    assert report.outcome is Outcome.NOT_EVALUATED
    assert "artifact" in reasons(report)


NOWHERE = {"os": "unknown", "architecture": "unknown"}
LINUX = {"os": "linux", "architecture": "amd64"}


def statements(document: dict[str, Any], layer: bytes = b"{}") -> Made:
    return Made(layers=[layer], media_types=["application/vnd.in-toto+json"], document=document)


@pytest.mark.parametrize("rootfs", [None, {}, {"type": "layers"}, {"diff_ids": []}])
@pytest.mark.parametrize("platform", [None, NOWHERE])
def test_statements_without_layers_to_a_runtime_are_no_image(
    tmp_path: Path, rootfs: Any, platform: dict[str, str] | None
) -> None:
    statement, made = statements({"rootfs": rootfs}), Made()
    told = statement.described(**({"platform": platform} if platform else {}))
    made.blobs |= statement.blobs
    report = scanned(made.write(tmp_path, made.described(), told))
    assert [digest for digest, _ in report.skipped] == [told["digest"]]
    assert report.outcome is Outcome.CLEAN


@pytest.mark.parametrize(
    ("platform", "document"),
    [
        (LINUX, {}),
        (LINUX, NOWHERE),
        (LINUX, {"rootfs": {"diff_ids": []}}),
        (NOWHERE, LINUX),
        (None, NOWHERE),
        (None, LINUX),
        (NOWHERE, NOWHERE | {"rootfs": {"diff_ids": [diff_id(b"other")]}}),
        (NOWHERE, NOWHERE | {"rootfs": [1]}),
    ],
)
def test_an_image_that_calls_its_layers_statements_is_not_passed_over(
    tmp_path: Path, platform: dict[str, str] | None, document: dict[str, Any]
) -> None:
    liar = statements(document, tar(file("a", mode=0o4755)))
    told = liar.described(**({"platform": platform} if platform else {}))
    made = Made()
    made.blobs |= liar.blobs
    report = scanned(made.write(tmp_path, made.described(), told))
    assert report.skipped == ()
    assert report.outcome is Outcome.NOT_EVALUATED


def test_statements_with_layers_by_another_name_are_ambiguous(tmp_path: Path) -> None:
    liar, made = statements(NOWHERE), Made()
    liar.manifest = {"Layers": []}
    told = liar.described(platform=NOWHERE)
    made.blobs |= liar.blobs
    report = scanned(made.write(tmp_path, made.described(), told))
    assert rules(report) == {"image.ambiguous"}


def test_statements_whose_configuration_is_missing_are_not_evaluated(tmp_path: Path) -> None:
    statement, made = statements(NOWHERE), Made()
    told = statement.described(platform=NOWHERE)
    made.blobs |= {told["digest"]: statement.blobs[told["digest"]]}
    report = scanned(made.write(tmp_path, made.described(), told))
    assert report.outcome is Outcome.NOT_EVALUATED


def test_statements_beside_an_image_are_named_and_no_images(tmp_path: Path) -> None:
    made = Made()
    statement = statements(NOWHERE)
    told = statement.described(platform=NOWHERE)
    made.blobs |= statement.blobs
    report = scanned(made.write(tmp_path, made.described(), told))
    assert len(report.images) == 1
    assert [digest for digest, _ in report.skipped] == [told["digest"]]
    assert report.outcome is Outcome.CLEAN
    # What merely says so has layers, and is judged.
    liar = image(tar(file("a", mode=0o4755)))
    marked = liar.described(annotations={"vnd.docker.reference.type": "attestation-manifest"})
    report = scanned(liar.write(tmp_path / "liar", marked))
    assert rules(report) == {"image.setuid"}


def test_a_sha512_digest_is_verified(tmp_path: Path, made: Made) -> None:
    told = json.loads(made.blobs[made.described()["digest"]])
    digest = hashlib.sha512(made.layers[1]).hexdigest()
    told["layers"][1]["digest"] = f"sha512:{digest}"
    made.blobs[f"sha512:{digest}"] = made.layers[1]
    root = made.write(tmp_path, made.blob(dumped(told), told["mediaType"]))
    assert rules(scanned(root)) == {"image.setuid"}
    (root / "blobs" / "sha512" / digest).write_bytes(made.layers[1].replace(b"text", b"next"))
    assert rules(scanned(root)) == {"image.blob_differs"}


def test_a_configuration_of_no_known_shape_is_not_evaluated(tmp_path: Path) -> None:
    for number, config in enumerate(({}, {"rootfs": {"diff_ids": [1]}}, {"rootfs": None})):
        made = Made()
        told = json.loads(made.blobs[made.described()["digest"]])
        told["config"] = made.blob(dumped(config), CONFIG)
        root = made.write(tmp_path / str(number), made.blob(dumped(told), told["mediaType"]))
        assert scanned(root).outcome is Outcome.NOT_EVALUATED


def test_reading_an_archive_leaves_nothing_behind(tmp_path: Path, made: Made) -> None:
    path = written(tmp_path / "oci.tar", oci_members(made, tmp_path / "l"))
    before = sorted(tmp_path.rglob("*"))
    assert findings(scanned(path))
    assert sorted(tmp_path.rglob("*")) == before
