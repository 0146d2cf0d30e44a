"""Each reader of lock files: the pins it finds, and what it says is open, by name."""

from __future__ import annotations

import json

import pytest

from tests.scan.osv_records import found_in, left, names

REQUIREMENTS = """# what we need
Flask==2.0.1  # pinned
requests[socks] == 2.19.0 ; python_version < "3.12" \\
    --hash=sha256:aa \\
    --hash=sha256:bb
numpy===1.26.4
loose>=1
star==1.*
both==1,==2
--index-url https://example.invalid/simple
-r more/base.txt
-c constraints.txt
-r ../../outside.txt
-r https://example.invalid/r.txt
-e .
-e git+https://example.invalid/x.git#egg=eggy
git+https://example.invalid/y.git@0000#egg=why
direct @ https://example.invalid/direct-1.0.whl
./local.whl
${NAME}==1
what is this
"""


def test_requirements_name_pins_and_say_what_is_open() -> None:
    found = found_in(
        {
            "app/requirements-dev.txt": REQUIREMENTS,
            "app/more/base.txt": "deep==1\n-r ../requirements-dev.txt\n-r base.txt\n-r gone.txt\n",
            "app/constraints.txt": "limit<2\nfixed==3\n",
            "../outside.txt": "stolen==1\n",
        }
    )
    assert [(one.name, one.version, one.path) for one in found.packages] == [
        ("Flask", "2.0.1", "app/requirements-dev.txt"),
        ("deep", "1", "app/more/base.txt"),
        ("fixed", "3", "app/constraints.txt"),
        ("numpy", "1.26.4", "app/requirements-dev.txt"),
        ("requests", "2.19.0", "app/requirements-dev.txt"),
    ]
    reasons = left(found)
    assert {"loose", "star", "both", "eggy", "why", "direct"} <= reasons.keys()
    said = " ".join(one.reason for one in found.open)
    for word in (
        "../../outside.txt",
        "gone.txt",
        "r.txt",
        "./local.whl",
        "${NAME}",
        "what is this",
    ):
        assert word in said
    assert "limit" not in reasons


def test_no_token_of_an_address_is_told() -> None:
    address = "https://me:t0ken@example.invalid/a"  # keepstone: allow-secret nobodys
    lines = (address, f"git+{address}@v1", f"-e git+{address}", f"-r {address}", f"b @ {address}")
    found = found_in(
        {"requirements.txt": "".join(f"{line}\n" for line in (*lines, f"-x {address}"))}
    )
    assert len(found.open) == 6
    assert "t0ken" not in str(found)


def test_requirements_in_the_encodings_of_windows() -> None:
    for data in ("a==1\r\n".encode("utf-16"), b"\xef\xbb\xbfa==1\r\n"):
        assert names(found_in({"requirements.txt": data})) == [("PyPI", "a", "1")]
    for data in (b"\xff\xfea=\x00\xd8", b"a==1\xff\n", b"a==1\0\n"):
        found = found_in({"requirements.txt": data})
        assert (found.packages, list(left(found))) == ((), ["requirements.txt"])


def test_includes_without_end_end() -> None:
    chain: dict[str, bytes | str] = {f"r{n}.txt": f"-r r{n + 1}.txt\n" for n in range(2_000)}
    found = found_in({"requirements.txt": "-r r0.txt\n", **chain})
    assert "more than 50 files" in " ".join(left(found).values())


def test_endless_lists_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("keepstone.scan.packages.inventory.MAX_PACKAGES", 10)
    for line in ("p{}==1\n", "p{}\n"):
        found = found_in({"requirements.txt": "".join(line.format(n) for n in range(50))})
        assert len(found.packages) + len(found.open) == 11
        assert "more than 10 packages" in " ".join(left(found).values())
    again = found_in({"requirements.txt": "p==1\n" * 50})
    assert "more than 10 packages" in " ".join(left(again).values())
    monkeypatch.undo()
    silent = found_in({"constraints.txt": "p>1\n" * 30_000})
    assert left(silent) == {"constraints.txt": "It has more than 20000 lines."}
    found = found_in({"requirements.txt": "a==1 ; " + "(" * 100_000 + "\nb==1\n"})
    assert (names(found), len(found.open)) == ([("PyPI", "b", "1")], 1)
    large = found_in({"requirements.txt": b"\n" * (5 << 20)})
    assert list(left(large)) == ["requirements.txt"]
    large = found_in({"uv.lock": b"version = 1\n" + b"#" * (17 << 20)})
    assert (large.packages, list(left(large))) == ((), ["uv.lock"])


UV = """version = 1
[[package]]
name = "anyio"
version = "4.3.0"
source = { registry = "https://example.invalid/simple" }
[[package]]
name = "me"
version = "0.1.0"
source = { editable = "." }
[[package]]
name = "other"
version = "1"
source = { editable = "../other" }
[[package]]
name = "forked"
version = "2"
source = { git = "https://example.invalid/f?rev=1#2" }
"""
POETRY = """[[package]]
name = "anyio"
version = "4.3.0"
[[package]]
name = "forked"
version = "2"
[package.source]
type = "git"
url = "https://example.invalid/f"
[[package]]
name = "mirrored"
version = "1"
[package.source]
type = "legacy"
url = "https://example.invalid/simple"
"""
PDM = """[[package]]
name = "anyio"
version = "4.3.0"
[[package]]
name = "forked"
version = "2"
git = "https://example.invalid/f"
"""
PYLOCK = """lock-version = "1.0"
[[packages]]
name = "anyio"
version = "4.3.0"
[[packages]]
name = "forked"
vcs = { type = "git", url = "https://example.invalid/f", commit-id = "0" }
[[packages]]
name = "me"
directory = { path = ".", editable = true }
[[packages]]
name = "nothing"
"""


@pytest.mark.parametrize(
    ("path", "text", "open_"),
    [
        ("uv.lock", UV, ["forked", "other"]),
        ("poetry.lock", POETRY, ["forked"]),
        ("pdm.lock", PDM, ["forked"]),
        ("pylock.toml", PYLOCK, ["forked", "nothing"]),
        ("pylock.dev.toml", PYLOCK, ["forked", "nothing"]),
    ],
)
def test_lock_files_in_toml(path: str, text: str, open_: list[str]) -> None:
    found = found_in({f"app/{path}": text})
    assert ("PyPI", "anyio", "4.3.0") in names(found)
    assert sorted(left(found)) == open_
    assert {one.name for one in found.packages} <= {"anyio", "mirrored"}


def test_another_pylock_version_is_not_guessed() -> None:
    found = found_in({"pylock.toml": PYLOCK.replace("1.0", "2.0")})
    assert (found.packages, list(left(found))) == ((), ["pylock.toml"])


PIPFILE = {
    "_meta": {"hash": {}},
    "default": {
        "requests": {"version": "==2.19.0", "hashes": []},
        "forked": {"git": "https://example.invalid/f", "ref": "0"},
    },
    "develop": {"pytest": {"version": "==8.0"}, "loose": {"version": "*"}},
}
NPM = {
    "lockfileVersion": 3,
    "packages": {
        "": {"name": "me", "version": "1.0.0"},
        "packages/mine": {"name": "mine", "version": "1.0.0"},
        "node_modules/mine": {"resolved": "packages/mine", "link": True},
        "node_modules/away": {"resolved": "../away", "link": True},
        "node_modules/lodash": {"version": "4.17.20"},
        "node_modules/a/node_modules/@s/b": {"version": "2.0.0-rc.1"},
        "node_modules/alias": {"name": "real", "version": "3.0.0"},
        "node_modules/forked": {"version": "1.0.0", "resolved": "git+ssh://example.invalid/f#0"},
        "node_modules/bare": {},
    },
}


def test_lock_files_in_json() -> None:
    found = found_in({"Pipfile.lock": json.dumps(PIPFILE)})
    assert names(found) == [("PyPI", "pytest", "8.0"), ("PyPI", "requests", "2.19.0")]
    assert sorted(left(found)) == ["forked", "loose"]
    twice = '{"default": {"a": {"version": "==1"}}, "default": {}}'
    assert list(left(found_in({"Pipfile.lock": twice}))) == ["Pipfile.lock"]
    found = found_in({"web/package-lock.json": json.dumps(NPM)})
    assert names(found) == [
        ("npm", "@s/b", "2.0.0-rc.1"),
        ("npm", "lodash", "4.17.20"),
        ("npm", "real", "3.0.0"),
    ]
    assert sorted(left(found)) == ["away", "bare", "forked"]
    old = found_in({"package-lock.json": json.dumps({"lockfileVersion": 1, "dependencies": {}})})
    assert list(left(old)) == ["package-lock.json"]


CONDA = """name: ml
channels: [conda-forge]
dependencies:
  - python==3.11
  - fuzzy=3.11
  - conda-forge::numpy=1.26.4=py311h_0
  - scipy>=1.10
  - blas=*=openblas
  - pip:
    - torch==2.0.0
    - loose
    - -r requirements.txt
"""


def test_conda_is_named_though_nobody_judges_it() -> None:
    found = found_in(
        {
            "env/conda-meta/zlib-1.2.13-0.json": '{"name": "zlib", "version": "1.2.13"}',
            "env/conda-meta/broken.json": "{}",
            "environment.yml": CONDA,
            "other/environment.yaml": "production: {port: 80}",
        }
    )
    assert names(found) == [
        ("PyPI", "torch", "2.0.0"),
        ("conda", "numpy", "1.26.4"),
        ("conda", "python", "3.11"),
        ("conda", "zlib", "1.2.13"),
    ]
    assert sorted(name for name in left(found) if name) == [
        "blas",
        "env/conda-meta/broken.json",
        "environment.yml",
        "fuzzy",
        "loose",
        "scipy",
    ]


def test_a_project_without_a_lock_file_is_open_by_name() -> None:
    project = '[project]\nname = "me"\ndependencies = ["requests>=2", "exact==1.0"]\n'
    alone = found_in({"app/pyproject.toml": project})
    assert (names(alone), list(left(alone))) == ([("PyPI", "exact", "1.0")], ["requests"])
    beside = found_in({"app/pyproject.toml": project, "app/uv.lock": UV})
    assert "requests" not in left(beside)
    poetry = '[tool.poetry.dependencies]\npython = "^3.11"\nrequests = "^2"\n'
    assert list(left(found_in({"pyproject.toml": poetry}))) == ["requests"]
    assert found_in({"pyproject.toml": "[tool.ruff]\n"}).open == ()
