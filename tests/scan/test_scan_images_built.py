"""Images built by umoci and buildah, and pulled from a registry: what was planted is found, and
nothing is found in their clean twins."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.environment import python_of
from keepstone.core.finding import Outcome
from keepstone.scan.images.found import ImageReport, ImagesReport
from keepstone.scan.packages.package import Package
from tests.registry import PASSWORD, USER, LocalRegistry, docker_registry
from tests.scan.building import (
    BASE,
    Buildah,
    Umoci,
    clean_tree,
    plain,
    plant,
    purl_names,
    token,
    whole_machine,
)
from tests.scan.imaging import at, findings, only, reasons, rules, scanned

Need = Callable[[str, str], str]
DIGEST = "sha256:" + "b" * 64
BASED = ("name=debian:12", f"digest={DIGEST}")


def _tools(need: Need) -> tuple[str, str]:
    if not Path("/var/lib/dpkg/status").exists():
        pytest.skip("needs a Debian, whose packages the images hold")
    umoci, buildah = need("umoci", "build images"), need("buildah", "build images")
    if os.geteuid() != 0:
        pytest.skip("needs root, to build images with chroot isolation")
    return umoci, buildah


@pytest.fixture(scope="module")
def trees(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    root = tmp_path_factory.mktemp("trees")
    return clean_tree(root / "clean"), plant(clean_tree(root / "planted"))


@pytest.fixture
def umoci(need: Need, tmp_path: Path) -> Umoci:
    return Umoci(_tools(need)[0], tmp_path / "layout")


@pytest.fixture
def buildah(need: Need, tmp_path: Path) -> Buildah:
    store = tmp_path / "store"
    store.mkdir()
    made = Buildah(_tools(need)[1], store)
    try:
        made.run("images")
    except AssertionError as error:
        pytest.skip(f"buildah does not work here: {error}")
    return made


@pytest.fixture
def registry(need: Need, tmp_path: Path) -> Iterator[LocalRegistry]:
    folder = tmp_path / "registry"
    folder.mkdir()
    with docker_registry(need("docker-registry", "serve images"), folder) as running:
        yield running


def assert_planted(report: ImagesReport, environment: bool = True) -> ImageReport:
    """Everything that was planted is found, at its place, and nothing else is flagged."""
    assert at(report, "pickle.dangerous_import") == ["opt/model/evil.pkl"]
    assert at(report, "image.setuid") == ["bin/asroot"]
    assert at(report, "image.world_writable") == ["srv/drop", "srv/notes"]
    assert at(report, "secret.private_key") == ["root/.ssh/id"]
    assert at(report, "image.root") == ["(configuration)"]
    tokens = at(report, "secret.token")
    assert "etc/app.conf" in tokens
    assert ("ENV" in tokens) is environment
    flagged = {item.finding.rule for item in findings(report) if item.outcome is Outcome.FLAGGED}
    assert flagged == {
        *("image.root", "image.setuid", "image.world_writable", "pickle.dangerous_import"),
        *("secret.private_key", "secret.token"),
    }
    assert token() not in reasons(report)
    (key,) = [one for one in findings(report) if one.finding.rule == "secret.private_key"]
    assert key.deleted
    assert key.layer in [layer.digest for layer in only(report).layers]
    return only(report)


def assert_clean(report: ImagesReport) -> ImageReport:
    assert findings(report) == []
    assert report.outcome is Outcome.CLEAN
    listed = only(report).packages.listed
    assert {"PyPI"} < {one.ecosystem for one in listed}
    assert len(listed) > 40
    return only(report)


def test_umoci_images(trees: tuple[Path, Path], umoci: Umoci) -> None:
    clean, planted = trees
    based = [word for one in BASED for word in ("--manifest.annotation", f"{BASE}{one}")]
    good = umoci.build("clean", clean, "--config.user", "app", *based)
    settings = ["--config.env", f"GITHUB_TOKEN={token()}", *based]
    bad = umoci.build("planted", planted, *settings, whiteout="/root/.ssh/id")
    assert_clean(scanned(good, base=True))
    assert_planted(scanned(bad, base=True))
    whole = scanned(umoci.layout, base=True)
    assert [one.tags for one in whole.images] == [("clean",), ("planted",)]
    assert [one.outcome for one in whole.images] == [Outcome.CLEAN, Outcome.FLAGGED]


def test_umoci_images_without_a_base_say_so(trees: tuple[Path, Path], umoci: Umoci) -> None:
    name = umoci.build("clean", trees[0], "--config.user", "app")
    report = scanned(name, base=True)
    assert rules(report) == {"image.base_unknown"}
    assert report.outcome is Outcome.NOT_EVALUATED


def _built(buildah: Buildah, trees: tuple[Path, Path], context: Path) -> None:
    """`clean` and `planted` in buildah's store; a later step of the second deletes the key."""
    clean, planted = trees
    for name, tree in (("clean", clean), ("planted", planted)):
        shutil.copytree(tree, context / name / "tree")
    buildah.build("clean", context / "clean", "FROM scratch", "COPY tree/ /", "USER app")
    buildah.build(
        "planted",
        context / "planted",
        "FROM scratch",
        "ARG BUILD_TOKEN",
        "COPY tree/ /",
        # COPY takes the bit away.
        "RUN chmod 4755 /bin/asroot && rm -r /root/.ssh",
        f"ENV GITHUB_TOKEN={token()}",
        arguments=(f"BUILD_TOKEN={token()}",),
    )


def test_buildah_images_in_layouts_and_archives(
    trees: tuple[Path, Path], buildah: Buildah, tmp_path: Path
) -> None:
    _built(buildah, trees, tmp_path / "context")
    for name, judge in (("clean", assert_clean), ("planted", assert_planted)):
        places = (
            ("oci", tmp_path / f"{name}-layout", ()),
            ("oci", tmp_path / f"{name}-zstd", ("--compression-format", "zstd")),
            ("oci-archive", tmp_path / f"{name}.oci.tar", ()),
            ("docker-archive", tmp_path / f"{name}.docker.tar", ()),
        )
        seen = []
        for kind, path, options in places:
            buildah.run("push", *options, name, f"{kind}:{path}:localhost/{name}:1")
            report = scanned(path)
            image = judge(report)
            seen.append((image.config, [layer.diff_id for layer in image.layers]))
            if name == "planted":
                # The build's argument.
                assert any(one.startswith("history") for one in at(report, "secret.token"))
        # One image, however it is packed.
        assert all(one == seen[0] for one in seen)


@pytest.mark.loopback
def test_buildah_images_in_a_registry(
    trees: tuple[Path, Path],
    buildah: Buildah,
    registry: LocalRegistry,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    _built(buildah, trees, tmp_path / "context")
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(registry.auth_file))
    for name, judge in (("clean", assert_clean), ("planted", assert_planted)):
        place = f"{registry.host}/team/{name}:1"
        login = ["--tls-verify=false", "--creds", f"{USER}:{PASSWORD}"]
        buildah.run("push", *login, name, f"docker://{place}")
        image = judge(scanned(place))
        by_digest = f"{registry.host}/team/{name}@{image.digest}"
        assert scanned(by_digest).images[0].digest == image.digest


@pytest.mark.slow
def test_packages_agree_with_syfts(umoci: Umoci, tmp_path: Path) -> None:
    """The same names and versions on the same images, of dpkg, apk and pip: every package of this
    machine. Names are compared as their index does; syft writes `zope.event` as `zope-event`."""
    syft = _syft()
    alpine = tmp_path / "alpine"
    for folder in ("etc", "lib/apk/db"):
        (alpine / folder).mkdir(parents=True)
    (alpine / "etc/os-release").write_text("ID=alpine\nVERSION_ID=3.19.1\n")
    (alpine / "etc/alpine-release").write_text("3.19.1\n")
    (alpine / "lib/apk/db/installed").write_text(_APK)
    for tag, tree in (("debian", whole_machine(tmp_path / "debian")), ("alpine", alpine)):
        one = Umoci(umoci.program, tmp_path / f"layout-{tag}")
        one.build(tag, tree, "--config.user", "1000")
        done = subprocess.run(
            [syft, "-q", "scan", f"oci-dir:{one.layout}", "-o", "cyclonedx-json"],
            capture_output=True,
            check=True,
            env={**os.environ, "SYFT_CHECK_FOR_APP_UPDATE": "false"},
        )
        theirs = purl_names(json.loads(done.stdout))
        listed = only(scanned(one.layout)).packages.listed
        ours = {(_kind(item), plain(item.name), item.version) for item in listed}
        assert len(ours) > (2 if tag == "alpine" else 100)
        # syft also takes the distribution itself, and programs by what their bytes say, for
        # packages; we list what a manager installed.
        assert ours == {item for item in theirs if item[0] in _KINDS.values()}


_KINDS = {"Debian": "deb", "Alpine": "apk", "PyPI": "pypi"}


def _kind(item: Package) -> str:
    return _KINDS[item.ecosystem.partition(":")[0]]


_APK = """\
C:Q1qKcZ+j23xssAXmgQhkOO8dHnbWw=
P:musl
V:1.2.4_git20230717-r4
A:x86_64
S:407278
I:667648
T:the musl c library (libc) implementation
U:https://musl.libc.org/
L:MIT
o:musl
m:Timo <none@example.org>
t:1699267148
c:ca7f2ab5e88794e4e654b40776f8a92256f50639

C:Q1w7WSMbvIyrGIAVHHAMBNnoTiUSw=
P:ssl_client
V:1.36.1-r15
A:x86_64
S:4984
I:28672
T:External ssl_client for busybox wget
U:https://busybox.net/
L:GPL-2.0-only
o:busybox
m:Natanael <none@example.org>
t:1699383189
c:d1b6f274f29076967826e0ecf6ebcaa5d360272f

C:Q1NNpYJ2XqVVc8C1SfNbjFPoIRTTM=
P:zlib
V:1.3.1-r0
A:x86_64
S:54253
I:110592
T:A compression/decompression Library
U:https://zlib.net/
L:Zlib
o:zlib
m:Natanael <none@example.org>
t:1705930250
c:9406f6fc36eddca9d3c419d70c1b76b1c4f2c4f2

"""


def _syft() -> Path:
    try:
        return python_of("syft").parent / "syft"
    except subprocess.CalledProcessError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(f"syft cannot be installed: {error}")
