"""Packages that an installer would get and a careless reader would not see."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keepstone.scan.packages.places import look
from keepstone.scan.packages.readers.requirements import _lines
from tests.scan.osv_records import found_in, left, names

EVIL, FLASK = ("PyPI", "evil", "1.0"), ("PyPI", "flask", "3.0.0")
PROJECT = '[project]\nname = "x"\n'


@pytest.mark.parametrize(
    "text",
    [
        "flask==3.0.0\n# pinned by hand \\\nevil==1.0\n",
        "flask==3.0.0 \\\n# pinned by hand \\\nevil==1.0\n",
        "flask==3.0.0\n  # pinned by hand \\\r\nevil==1.0\n",
        "flask==3.0.0\x0b# by hand \\\x0cevil==1.0\n",
        "fla\\\nsk==3.0.0\nev\\\nil==1.0",
    ],
)
def test_lines_are_joined_as_pip_joins_them(text: str) -> None:
    found = found_in({"requirements.txt": text})
    assert names(found) == [EVIL, FLASK]
    assert found.open == ()


def test_a_line_of_spaces_holds_nobody_up() -> None:
    found = found_in({"requirements.txt": "flask==3.0.0" + " " * (3 << 20) + "\\\nx"})
    assert names(found) == []
    assert [one.reason[:9] for one in found.open] == ["A line is"]


@given(st.text(alphabet="ab=1# \\\\\n\n\r\t\v\u2028-", max_size=60))
def test_pips_own_lines_are_ours(text: str) -> None:
    pip: Any = pytest.importorskip("pip._internal.req.req_file")
    assert list(_lines(text)) == [line for _, line in pip.preprocess(text)]


@pytest.mark.parametrize(
    "text",
    [
        "# coding: utf-7\n# +AAo-evil==1.0\nflask==3.0.0\n",
        "flask==3.0.0\n# -*- coding=UTF-7 -*-\n# +AAo-evil==1.0\n",
        "# coding: utf-8\n# coding: utf-7\nflask==3.0.0\n",
        "# coding: no-such-thing\nflask==3.0.0\n",
    ],
)
def test_a_list_in_another_encoding_is_broken(text: str) -> None:
    found = found_in({"requirements.txt": text})
    assert found.packages == ()
    assert list(left(found)) == ["requirements.txt"]


@pytest.mark.parametrize("said", ["utf-8", "UTF8", "ascii", "us-ascii", "utf-8-sig"])
def test_a_list_that_says_our_encoding_is_read(said: str) -> None:
    found = found_in({"requirements.txt": f"# vim: set fileencoding: {said}\nflask==3.0.0\n"})
    assert (names(found), found.open) == ([FLASK], ())


def test_a_constraint_that_is_then_required_is_required() -> None:
    found = found_in(
        {"requirements.txt": "flask==3.0.0\n-c base.txt\n-r base.txt\n", "base.txt": "loose>=1\n"}
    )
    assert list(left(found)) == ["loose"]


@pytest.mark.parametrize(
    "line", ["--pre -r base.txt", '--pre "-r" base.txt', "--no-index --req base.txt", "--pre '"]
)
def test_an_option_hides_no_include_behind_it(line: str) -> None:
    found = found_in({"requirements.txt": f"flask==3.0.0\n{line}\n", "base.txt": "evil==1.0\n"})
    assert names(found) == [FLASK]
    assert list(left(found)) == ["requirements.txt"]
    plain = found_in({"requirements.txt": "--pre --index-url https://a/b -f c\nflask==3.0.0\n"})
    assert plain.open == ()


@pytest.mark.parametrize(
    "line",
    [
        "evil @ https://h/x.whl?sig=SECRET",
        "https://h/x.whl?sig=SECRET#egg=evil",
        "-e git+https://h/x#egg=evil&SECRET",
        "-r https://h/x.txt?SECRET",
        "evil @ https://me:SECRET@h/x.whl#SECRET",
    ],
)
def test_no_secret_of_an_address_is_told(line: str) -> None:
    (reason,) = left(found_in({"requirements.txt": line})).values()
    assert "SECRET" not in reason
    assert "//" in reason


@pytest.mark.parametrize(
    "text",
    [
        '[project]\ndependencies = ["evil==1.0"]\n',
        '[project]\n[project.optional-dependencies]\nx = ["evil==1.0"]\n',
        '[dependency-groups]\nall = [{include-group = "x"}]\nx = ["evil==1.0"]\n',
    ],
)
def test_a_project_asks_in_several_tables_and_only_a_lock_file_answers(text: str) -> None:
    beside: dict[str, bytes | str] = {"requirements.txt": "flask==3.0.0\n", "constraints.txt": ""}
    found = found_in({**beside, "pyproject.toml": text})
    assert names(found) == [EVIL, FLASK]
    assert found.open == ()
    locked = found_in({**beside, "pyproject.toml": text, "pdm.lock": "[metadata]\n"})
    assert names(locked) == [FLASK]


@pytest.mark.parametrize(
    "text",
    [
        f'{PROJECT}dynamic = ["dependencies"]\n',
        "[dependency-groups]\nx = [{other = 1}]\n",
        '[project.optional-dependencies]\nx = ["evil"]\n',
        '[tool.poetry.group.dev.dependencies]\nevil = "*"\n',
        '[project]\noptional-dependencies = ["evil==1.0"]\n',
    ],
)
def test_what_a_project_does_not_fix_is_open(text: str) -> None:
    found = found_in({"requirements.txt": "flask==3.0.0\n", "pyproject.toml": text})
    assert names(found) == [FLASK]
    assert len(found.open) == 1


def test_mlflows_environment_is_one_of_conda() -> None:
    text = "dependencies:\n- python==3.11.4\n- pip:\n  - evil==1.0\n"
    assert names(found_in({"model/conda.yaml": text})) == [EVIL, ("conda", "python", "3.11.4")]


def test_sources_of_a_compiled_list_give_their_pins() -> None:
    text = "evil==1.0\nloose\n"
    alone = found_in({"requirements.in": text})
    assert (names(alone), list(left(alone))) == ([EVIL], ["loose"])
    compiled = found_in({"a/requirements.in": text, "a/requirements.txt": "flask==3.0.0\n"})
    assert (names(compiled), compiled.open) == ([EVIL, FLASK], ())


@pytest.mark.parametrize(
    ("path", "text"),
    [
        ("setup.cfg", "[options]\ninstall_requires =\n  evil==1.0\n"),
        ("setup.py", "setup(install_requires=['evil==1.0'])\n"),
        ("setup.py", "setup(**{'extras_require': {}})\n"),
        ("Pipfile", '[packages]\nevil = "==1.0"\n'),
    ],
)
def test_a_list_that_is_not_read_makes_nothing_clean(path: str, text: str) -> None:
    found = found_in({"requirements.txt": "flask==3.0.0\n", path: text})
    assert names(found) == [FLASK]
    assert list(left(found)) == [path]
    assert path not in found.read


def test_what_asks_for_nothing_is_not_told() -> None:
    files: dict[str, bytes | str] = {
        "setup.py": "from setuptools import setup\nsetup()\n",
        "setup.cfg": "[options]\npython_requires = >=3.8\n[flake8]\nmax-line-length = 100\n",
        "Pipfile": "",
        "Pipfile.lock": '{"default": {"flask": {"version": "==3.0.0"}}}',
    }
    found = found_in(files)
    assert (names(found), found.open, found.read) == ([FLASK], (), ("Pipfile.lock",))


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("usr/lib/node_modules/left-pad", "left-pad"),
        ("usr/local/lib/node_modules/@a/b", "@a/b"),
        ("lib/node_modules/npm/node_modules/@a/b/node_modules/c", "c"),
    ],
)
def test_what_npm_installed_for_the_system(folder: str, name: str) -> None:
    said = f'{{"name": "{name}", "version": "1.0.0"}}'
    found = found_in(
        {f"{folder}/package.json": said, f"{folder}/test/package.json": "{}"}, locks=False
    )
    assert (names(found), found.open) == ([("npm", name, "1.0.0")], ())
    assert len(found_in({f"{folder}/package.json": "{}"}).open) == 1


def _site(root: Path) -> Path:
    site = root / "site-packages"
    (site / "flask-3.0.0.dist-info").mkdir(parents=True)
    (site / "flask-3.0.0.dist-info" / "METADATA").write_text("Name: flask\nVersion: 3.0.0\n")
    (root / "store").mkdir()
    (root / "store" / "METADATA").write_text("Name: evil\nVersion: 1.0\n")
    return site


@pytest.mark.parametrize("target", ["../store", "{root}/store", "/store"])
def test_linked_metadata_is_read_under_the_links_name(tmp_path: Path, target: str) -> None:
    site = _site(tmp_path)
    (site / "evil-1.0.dist-info").symlink_to(target.format(root=tmp_path))
    found = look(tmp_path)
    assert (names(found), found.open) == ([EVIL, FLASK], ())
    assert f"{site}/evil-1.0.dist-info/METADATA" in found.read


def test_a_link_to_metadata_is_read_or_open(tmp_path: Path) -> None:
    site = _site(tmp_path)
    (site / "evil-1.0.dist-info").mkdir()
    (site / "evil-1.0.dist-info" / "METADATA").symlink_to("../../store/METADATA")
    (site / "b-1.dist-info").mkdir()
    (site / "b-1.dist-info" / "METADATA").symlink_to("../../store")
    found = look(tmp_path)
    assert names(found) == [EVIL, FLASK]
    assert [Path(one.path).parent.name for one in found.open] == ["b-1.dist-info"]


@pytest.mark.parametrize("target", ["../nowhere", "evil-1.0.dist-info", "/etc"])
def test_metadata_behind_a_link_that_leads_nowhere_is_open(tmp_path: Path, target: str) -> None:
    site = _site(tmp_path)
    (site / "evil-1.0.dist-info").symlink_to(target)
    found = look(tmp_path)
    assert names(found) == [FLASK]
    assert [os.path.basename(one.path) for one in found.open] == ["evil-1.0.dist-info"]
