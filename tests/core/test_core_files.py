"""A file is written as a whole, and where one stands only by who says so."""

from __future__ import annotations

from pathlib import Path

import pytest

from keepstone.errors import InputError, OperationalError
from keepstone.files import write_atomic, write_new


def test_a_new_file_takes_no_name_that_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    write_new(path, b"first", 0o644)
    assert path.read_bytes() == b"first"
    assert path.stat().st_mode & 0o777 == 0o644
    assert path.stat().st_nlink == 1
    with pytest.raises(InputError, match=r"file\.exists"):
        write_new(path, b"second")
    assert path.read_bytes() == b"first"
    write_atomic(path, b"second")
    assert path.read_bytes() == b"second"
    # Nothing is left beside it.
    assert list(tmp_path.iterdir()) == [path]


def test_a_dangling_link_is_a_name_that_is_taken(tmp_path: Path) -> None:
    path = tmp_path / "weights"
    path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(InputError, match=r"file\.exists"):
        write_new(path, b"mine")
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize("write", [write_new, write_atomic])
def test_what_cannot_be_written_says_so_and_leaves_nothing(tmp_path: Path, write: object) -> None:
    assert callable(write)
    with pytest.raises((InputError, OperationalError), match=r"file\.missing"):
        write(tmp_path / "no" / "weights", b"x")
    assert list(tmp_path.iterdir()) == []
