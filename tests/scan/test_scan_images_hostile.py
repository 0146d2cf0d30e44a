"""Images that lie, loop, lead out or blow up: a coded answer, bounded, and never clean."""

from __future__ import annotations

import gzip
import hashlib
import json
import os
import resource
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from backports import zstd

from keepstone.core.finding import Outcome
from keepstone.errors import InputError, VerificationError
from keepstone.scan.images.blobs import verified_chunks
from keepstone.scan.images.descriptor import Descriptor
from keepstone.scan.images.limits import Limits
from keepstone.scan.images.report import to_text
from tests.scan.imaging import (
    BASE,
    INDEX,
    LAYER,
    MANIFEST,
    Made,
    at,
    diff_id,
    dumped,
    file,
    findings,
    folder,
    hardlink,
    image,
    only,
    reasons,
    rules,
    scanned,
    symlink,
    tar,
)


def test_an_honest_image_is_clean(tmp_path: Path) -> None:
    layer = tar(folder("/"), folder("./"), folder("srv"), file("./srv/notes.txt"))
    report = scanned(image(layer).write(tmp_path))
    assert findings(report) == []
    assert report.outcome is Outcome.CLEAN
    assert [layer.evaluated for layer in only(report).layers] == [True, True]


def test_a_layer_of_another_content_is_not_believed(tmp_path: Path) -> None:
    made = image(tar(file("a", mode=0o4755)))
    root = made.write(tmp_path)
    victim = next(root.glob(f"blobs/sha256/{hashlib.sha256(made.layers[1]).hexdigest()}"))
    victim.write_bytes(made.layers[1].replace(b"text", b"next"))
    report = scanned(root)
    assert rules(report) == {"image.blob_differs"}
    assert only(report).layers[1].evaluated is False


@pytest.mark.parametrize("change", [-1, 1, 1 << 40])
def test_a_size_that_lies_is_said(tmp_path: Path, change: int) -> None:
    made = image()
    manifest = json.loads(made.blobs[made.described()["digest"]])
    manifest["layers"][0]["size"] += change
    report = scanned(made.write(tmp_path, made.blob(dumped(manifest), MANIFEST)))
    assert rules(report) == {"image.blob_differs", "image.not_evaluated"}
    assert report.outcome is Outcome.FLAGGED


def test_a_manifest_or_configuration_of_another_content_is_no_image(tmp_path: Path) -> None:
    for number, kind in enumerate(("manifest", "config")):
        made = image()
        told = made.described()
        config = json.loads(made.blobs[told["digest"]])["config"]
        digest = told["digest"] if kind == "manifest" else config["digest"]
        made.blobs[digest] += b" "
        report = scanned(made.write(tmp_path / str(number), told))
        assert rules(report) == {"image.blob_differs"}


def test_a_missing_blob_is_not_evaluated(tmp_path: Path) -> None:
    made = image(tar(file("a")))
    root = made.write(tmp_path)
    (root / "blobs" / "sha256" / hashlib.sha256(made.layers[1]).hexdigest()).unlink()
    report = scanned(root)
    assert report.outcome is Outcome.NOT_EVALUATED
    assert "is not there" in reasons(report)


def test_layers_out_of_order_are_said(tmp_path: Path) -> None:
    made = image(tar(file("a")), tar(file("b")))
    manifest = json.loads(made.blobs[made.described()["digest"]])
    manifest["layers"] = [manifest["layers"][one] for one in (0, 2, 1)]
    report = scanned(made.write(tmp_path, made.blob(dumped(manifest), MANIFEST)))
    assert rules(report) == {"image.blob_differs"}
    assert "out of order" in reasons(report)


def test_more_layers_than_the_configuration_has_are_said(tmp_path: Path) -> None:
    made = image()
    made.document = {"rootfs": {"type": "layers", "diff_ids": []}}
    assert "image.blob_differs" in rules(scanned(made.write(tmp_path)))


def test_ten_thousand_layers_are_not_looked_at(tmp_path: Path) -> None:
    made = image()
    told = json.loads(made.blobs[made.described()["digest"]])
    told["layers"] *= 10_000
    report = scanned(made.write(tmp_path, made.blob(dumped(told), MANIFEST)))
    assert report.outcome is Outcome.FLAGGED
    assert "10000 layers; 512 were looked at" in reasons(report)
    assert len(only(report).layers) == 512


def test_a_blob_that_never_ends_is_left() -> None:
    class Endless:
        def chunks(self, blob: Descriptor) -> Iterator[bytes]:
            while True:
                yield bytes(100)

    with pytest.raises(VerificationError):
        list(verified_chunks(Endless(), Descriptor("", "", 1000, place="x")))


@pytest.mark.parametrize(
    ("kind", "why"),
    [
        (LAYER + "+encrypted", "It is encrypted"),
        ("application/vnd.oci.image.layer.nondistributable.v1.tar", "fetched from elsewhere"),
        ("application/vnd.docker.image.rootfs.foreign.diff.tar.gzip", "fetched from elsewhere"),
        ("application/x-unknown", "not known"),
    ],
)
def test_a_layer_that_nobody_can_read_here_is_not_evaluated(
    tmp_path: Path, kind: str, why: str
) -> None:
    made = image(tar(file("a")), media_types=[LAYER, kind])
    report = scanned(made.write(tmp_path))
    assert report.outcome is Outcome.NOT_EVALUATED
    assert why in reasons(report)


def test_a_layer_with_addresses_is_not_evaluated(tmp_path: Path) -> None:
    made = image()
    told = json.loads(made.blobs[made.described()["digest"]])
    told["layers"][0]["urls"] = ["https://example.com/layer"]
    report = scanned(made.write(tmp_path, made.blob(dumped(told), MANIFEST)))
    assert report.outcome is Outcome.NOT_EVALUATED


def test_a_layer_packed_in_another_way_than_it_says_is_ambiguous(tmp_path: Path) -> None:
    made = image(gzip.compress(tar(file("a"))), media_types=[LAYER, LAYER + "+zstd"])
    assert rules(scanned(made.write(tmp_path))) == {"image.ambiguous"}


def test_a_manifest_of_the_old_schema_is_named(tmp_path: Path) -> None:
    made = image()
    old = made.blob(dumped({"schemaVersion": 1, "fsLayers": []}), MANIFEST)
    report = scanned(made.write(tmp_path, old))
    assert report.outcome is Outcome.NOT_EVALUATED
    assert "old schema 1" in reasons(report)


@pytest.mark.parametrize(
    "manifest",
    [
        {"schemaVersion": 2, "config": 7, "layers": []},
        {"schemaVersion": 2, "layers": []},
        {"schemaVersion": 2, "config": {"digest": "md5:0", "size": 1}, "layers": []},
        {"schemaVersion": 2, "config": {"digest": "sha256:../../etc", "size": 1}, "layers": []},
        {"schemaVersion": 2, "config": {"digest": "sha256:" + "0" * 64, "size": -1}, "layers": []},
        {"schemaVersion": 2, "config": {"digest": "sha256:" + "0" * 64, "size": 2}, "layers": 3},
        [],
    ],
)
def test_a_broken_manifest_is_not_evaluated(tmp_path: Path, manifest: Any) -> None:
    made = image()
    report = scanned(made.write(tmp_path, made.blob(dumped(manifest), MANIFEST)))
    assert report.outcome is Outcome.NOT_EVALUATED


@pytest.mark.parametrize("raw", [b"{", b"\xff", b"[" * 100_000, b'{"a": NaN}'])
def test_a_manifest_that_is_no_json_is_not_evaluated(tmp_path: Path, raw: bytes) -> None:
    made = image()
    report = scanned(made.write(tmp_path, made.blob(raw, MANIFEST)))
    assert report.outcome is Outcome.NOT_EVALUATED


def test_a_document_that_is_image_and_index_is_ambiguous(tmp_path: Path) -> None:
    made = image(manifest={"manifests": []})
    assert rules(scanned(made.write(tmp_path))) == {"image.ambiguous"}
    made = image(manifest={"mediaType": INDEX})
    assert "image.ambiguous" in rules(scanned(made.write(tmp_path)))


def test_a_key_that_a_document_says_twice_is_ambiguous(tmp_path: Path) -> None:
    made = image()
    raw = made.blobs[made.described()["digest"]]
    raw = raw[:-1] + b', "layers": []}'
    assert "image.ambiguous" in rules(scanned(made.write(tmp_path, made.blob(raw, MANIFEST))))


@pytest.mark.parametrize(
    "more",
    [
        b'"Layers": []',
        b'"LAYERS": []',
        '"layer\u017f": []'.encode(),
        b'"Config": {}',
        b'"Manifests": []',
        b'"mediatype": "x"',
        b'"fslayers": []',
        b'"some": 1, "Some": 2',
        b'"subject": {"digest": "a", "Digest": "b"}',
    ],
)
def test_a_name_in_another_case_is_ambiguous(tmp_path: Path, more: bytes) -> None:
    """Runtimes in Go take both for one, and of two the last."""
    made = image()
    raw = made.blobs[made.described()["digest"]][:-1] + b", " + more + b"}"
    assert rules(scanned(made.write(tmp_path, made.blob(raw, MANIFEST)))) == {"image.ambiguous"}


def test_a_name_in_another_case_in_an_index_is_ambiguous(tmp_path: Path) -> None:
    assert rules(scanned(image().write(tmp_path, Manifests=[]))) == {"image.ambiguous"}
    made = image()
    told = made.described() | {"Digest": f"sha256:{64 * '0'}"}
    assert rules(scanned(made.write(tmp_path / "b", told))) == {"image.ambiguous"}


@pytest.mark.parametrize(
    "document",
    [
        {"Config": {"User": "0"}},
        {"config": {"User": "1000", "user": "0"}},
        {"config": {"User": "1000", "ENV": ["A=b"]}},
        {"rootfs": {"diff_ids": [diff_id(BASE)], "Diff_Ids": []}},
        {"RootFS": {"diff_ids": []}},
        {"OS": "windows"},
    ],
)
def test_a_name_in_another_case_in_a_configuration_is_ambiguous(
    tmp_path: Path, document: dict[str, Any]
) -> None:
    report = scanned(Made(document=document).write(tmp_path))
    assert rules(report) == {"image.ambiguous"}


def test_names_that_an_image_chose_differ_by_case(tmp_path: Path) -> None:
    """Labels and annotations are no fields: every reader tells them apart, and honest ones do."""
    labels = {"maintainer": "a", "Maintainer": "b", "User": "c", "user": "d"}
    config = {"User": "1000", "Labels": labels, "Volumes": {"/a": {}, "/A": {}}}
    made = Made(config=config, manifest={"annotations": labels | {"Layers": "e"}})
    # What Docker writes beside it.
    made.document = {
        "container": "0123",
        "container_config": {"Hostname": "0123", "Image": "sha256:0123", **config},
        "docker_version": "24.0",
        "history": [{"created_by": "/bin/sh", "empty_layer": True, "comment": "buildkit"}],
        "os.version": "1",
        "variant": "v8",
    }
    assert findings(scanned(made.write(tmp_path))) == []


def test_an_index_that_leads_to_itself_ends(tmp_path: Path) -> None:
    """A digest keeps an index from naming itself; one whose digest is not verified could."""
    made = image()
    own = {"mediaType": INDEX, "digest": "sha256:" + "a" * 64, "size": 10}
    made.blobs[own["digest"]] = dumped({"schemaVersion": 2, "manifests": [own]})
    own["size"] = len(made.blobs[own["digest"]])
    report = scanned(made.write(tmp_path, own))
    assert rules(report) == {"image.blob_differs"}


def test_indexes_in_indexes_and_their_number_are_bounded(tmp_path: Path) -> None:
    made = image()
    inner = made.described()
    for _ in range(12):
        inner = made.blob(dumped({"schemaVersion": 2, "manifests": [inner] * 8}), INDEX)
    report = scanned(made.write(tmp_path, inner))
    assert report.outcome is Outcome.NOT_EVALUATED
    assert "nested deeper" in reasons(report)
    flat = Made()
    report = scanned(
        flat.write(tmp_path / "flat", *[flat.described()] * 20), limits=Limits(manifests=5)
    )
    assert len(report.images) == 5
    assert "more manifests than the limit" in reasons(report)


def test_an_empty_index_is_not_clean(tmp_path: Path) -> None:
    report = scanned(Made().write(tmp_path, manifests=[]))
    assert report.outcome is Outcome.NOT_EVALUATED


def test_bombs_are_flagged_and_cost_little(tmp_path: Path) -> None:
    deflate, zeros = zlib.compressobj(9, zlib.DEFLATED, 31), bytes(1 << 20)
    squeeze = zstd.ZstdCompressor()
    packed = {
        "gzip": b"".join([deflate.compress(zeros) for _ in range(300)]) + deflate.flush(),
        "zstd": b"".join([squeeze.compress(zeros) for _ in range(300)]) + squeeze.flush(),
    }
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    for kind, bomb in packed.items():
        made = image(bomb)
        made.document = {"rootfs": {"diff_ids": [diff_id(BASE), "sha256:" + "0" * 64]}}
        report = scanned(made.write(tmp_path / kind))
        assert rules(report) == {"image.bomb"}
        assert only(report).layers[1].unpacked < 80 << 20
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 32 << 10


def test_more_than_the_limit_unpacks_to_is_not_evaluated(tmp_path: Path) -> None:
    root = image(tar(file("a", bytes(4 << 20)))).write(tmp_path)
    report = scanned(root, limits=Limits(unpacked=1 << 20))
    assert report.outcome is Outcome.NOT_EVALUATED
    assert "unpack to more than the limit" in reasons(report)


def test_a_file_that_claims_a_terabyte_of_holes_is_a_bomb(tmp_path: Path) -> None:
    pax = {
        "GNU.sparse.major": "1",
        "GNU.sparse.minor": "0",
        "GNU.sparse.realsize": str(1 << 40),
        "GNU.sparse.name": "huge",
    }
    report = scanned(image(tar(file("x", bytes(512), pax_headers=pax))).write(tmp_path))
    assert rules(report) == {"image.bomb"}


def test_a_member_that_claims_a_terabyte_breaks_off(tmp_path: Path) -> None:
    info, _ = file("huge")
    info.size = 1 << 40
    layer = info.tobuf(tarfile.GNU_FORMAT) + bytes(1024)
    report = scanned(image(layer).write(tmp_path))
    assert report.outcome is Outcome.NOT_EVALUATED
    assert "breaks off" in reasons(report)


@pytest.mark.parametrize("cut", [3, 50, 300])
def test_a_compressed_layer_that_breaks_off_is_not_evaluated(tmp_path: Path, cut: int) -> None:
    for number, pack in enumerate((gzip.compress, zstd.compress)):
        layer = pack(tar(file("a", bytes(range(256)) * 40)))[:-cut]
        report = scanned(image(layer).write(tmp_path / str(number)))
        assert report.outcome is not Outcome.CLEAN
        assert "image.not_evaluated" in rules(report)


def test_names_that_lead_out_are_flagged_and_looked_at(tmp_path: Path) -> None:
    evil = tar(file("../../etc/cron.d/x"), file("/etc/absolute"), file("a/../../b", mode=0o4755))
    report = scanned(image(evil).write(tmp_path))
    assert rules(report) == {"image.unsafe_path"}
    assert len(at(report, "image.unsafe_path")) == 3


def test_a_whiteout_of_a_parent_is_flagged(tmp_path: Path) -> None:
    for name in ("a/.wh...", "a/.wh..", "a/.wh."):
        report = scanned(image(tar(folder("a"), file(name, b""))).write(tmp_path))
        assert rules(report) == {"image.unsafe_path"}, name


def test_links_that_lead_out_are_flagged(tmp_path: Path) -> None:
    out = tar(
        symlink("a/up", "../../../etc/shadow"),
        hardlink("shadow", "../../etc/shadow"),
        hardlink("gone", "not/there"),
    )
    report = scanned(image(out).write(tmp_path))
    assert rules(report) == {"image.link"}
    assert at(report, "image.link") == ["a/up", "gone", "shadow"]


def test_links_in_circles_end(tmp_path: Path) -> None:
    circle = tar(symlink("a", "b"), symlink("b", "a"), file("a/file"))
    report = scanned(image(circle).write(tmp_path))
    assert rules(report) == {"image.ambiguous"}


def test_names_that_are_no_paths_are_not_clean(tmp_path: Path) -> None:
    for number, name in enumerate(("x" * 5000, "/".join(["d"] * 300))):
        report = scanned(image(tar(file(name))).write(tmp_path / str(number)))
        assert report.outcome is Outcome.NOT_EVALUATED
    nul = scanned(image(tar(file("x", pax_headers={"path": "a\x00b"}))).write(tmp_path / "nul"))
    assert nul.outcome is Outcome.FLAGGED


def test_a_name_that_is_not_utf8_is_a_name(tmp_path: Path) -> None:
    odd = tar(file("caf\udce9", mode=0o4755), form=tarfile.GNU_FORMAT)
    report = scanned(image(odd).write(tmp_path))
    assert at(report, "image.setuid") == ["caf?"]


def test_a_path_that_a_layer_holds_twice_is_ambiguous(tmp_path: Path) -> None:
    twice = tar(file("a", b"one"), folder("d"), folder("d"), file("./a", b"two"))
    assert at(scanned(image(twice).write(tmp_path)), "image.ambiguous") == ["a"]


def test_an_unknown_kind_of_member_is_ambiguous_and_looked_at(tmp_path: Path) -> None:
    odd = tar(file("a", b"data", type=b"Z"))
    assert rules(scanned(image(odd).write(tmp_path))) == {"image.ambiguous"}


def test_nothing_that_an_image_says_moves_a_cursor(tmp_path: Path) -> None:
    escape, evil = "\x1b[2J", tar(file("bin/\x1b[2J\u202e", mode=0o4755), symlink("\x1bl", "../.."))
    made = image(evil, config={"User": escape, "Labels": {escape: "x"}})
    made.document = {"architecture": escape, "os": escape}
    name = {"org.opencontainers.image.ref.name": escape}
    report = scanned(made.write(tmp_path, made.described(annotations=name)))
    text = to_text(report)
    assert {"image.setuid", "image.link", "image.not_evaluated"} == rules(report)
    assert all(letter.isprintable() or letter == "\n" for letter in text)


def test_letter_case_tells_files_apart(tmp_path: Path) -> None:
    """As on Linux: none of the two is the other."""
    later = tar(file("ETC/passwd", b"app:x:0:0::/:/bin/sh\n"))
    assert scanned(image(later).write(tmp_path)).outcome is Outcome.CLEAN


def test_an_absurd_history_is_not_evaluated(tmp_path: Path) -> None:
    made = image()
    made.document = {"history": [{"created_by": "x"}] * 20_000}
    report = scanned(made.write(tmp_path))
    assert report.outcome is Outcome.NOT_EVALUATED
    made.document = {"history": "none"}
    assert scanned(made.write(tmp_path / "b")).outcome is Outcome.NOT_EVALUATED


def test_documents_over_the_limit_are_not_read(tmp_path: Path) -> None:
    root = image().write(tmp_path)
    report = scanned(root, limits=Limits(document=200))
    assert report.outcome is Outcome.NOT_EVALUATED
    with pytest.raises(InputError) as caught:
        scanned(root, limits=Limits(document=20))
    assert caught.value.code == "image.too_large"


def test_more_entries_than_the_limit_are_not_evaluated(tmp_path: Path) -> None:
    root = image(tar(*(file(f"f{number}", b"") for number in range(50)))).write(tmp_path)
    report = scanned(root, limits=Limits(entries=20))
    assert report.outcome is Outcome.NOT_EVALUATED


def test_names_that_fill_memory_are_not_evaluated(tmp_path: Path) -> None:
    long = tar(*(symlink(f"{number}", "x" * 3000) for number in range(50)))
    report = scanned(image(long).write(tmp_path), limits=Limits(names=100_000))
    assert report.outcome is Outcome.NOT_EVALUATED
    assert "names are longer" in reasons(report)


def test_folders_without_end_are_not_evaluated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each path may make folders; a million paths of two hundred would fill memory."""
    monkeypatch.setattr("keepstone.scan.images.merge._MAX_MADE", 500)
    deep = tar(*(file(f"{number}/" + "/".join("abcdefgh" * 8)) for number in range(20)))
    report = scanned(image(deep).write(tmp_path))
    assert report.outcome is Outcome.NOT_EVALUATED
    assert "more than the limit" in reasons(report)


def test_the_platform_that_an_index_gives_must_be_the_images(tmp_path: Path) -> None:
    made = image()
    told = made.described(platform={"os": "linux", "architecture": "arm64"})
    assert rules(scanned(made.write(tmp_path, told))) == {"image.ambiguous"}


@pytest.mark.parametrize("what", ["pipe", "folder", "device", "nothing"])
def test_what_is_no_image_is_refused(tmp_path: Path, what: str) -> None:
    path = tmp_path / "given"
    if what == "pipe":
        os.mkfifo(path)
    elif what == "folder":
        path.mkdir()
    elif what == "nothing":
        path.write_bytes(b"no tar" * 200)
    else:
        path = Path("/dev/null")
    with pytest.raises(InputError):
        scanned(path)
