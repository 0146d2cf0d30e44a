"""A file is written as a whole, and where one stands only by who says so."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

import pytest

from keepstone.errors import InputError, OperationalError
from keepstone.files import require_place, write_atomic, write_new, write_place


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


def test_only_a_plain_file_is_ever_written_over(tmp_path: Path) -> None:
    """Neither before the work nor after it, with --force or without."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "there").write_bytes(b"mine")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "link").symlink_to(tmp_path / "there")
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind(str(tmp_path / "socket"))
    odd = ["folder", "pipe", "link", "dangling", "socket"]
    with contextlib.suppress(PermissionError):
        # The numbers of the null device, in a folder of our own.
        os.mknod(tmp_path / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
        odd.append("device")
    before = {name: os.lstat(tmp_path / name) for name in odd}
    for name in odd:
        for replace in (None, False, True):
            with pytest.raises(InputError, match=r"file\.not_plain"):
                require_place(tmp_path / name, replace=replace)
            with pytest.raises(InputError, match=r"file\.not_plain"):
                write_place(tmp_path / name, b"x", replace=replace)
        now = os.lstat(tmp_path / name)
        assert (now.st_mode, now.st_ino) == (before[name].st_mode, before[name].st_ino)
    assert (tmp_path / "there").read_bytes() == b"mine"
    assert not (tmp_path / "nothing").exists()


def test_a_file_is_written_over_only_by_who_says_so(tmp_path: Path) -> None:
    path = tmp_path / "there"
    write_place(path, b"first")
    for replace, hint in ((False, "--force"), (None, "Choose another path.")):
        with pytest.raises(InputError, match=r"file\.exists") as refused:
            require_place(path, replace=replace)
        assert hint in str(refused.value.next_step)
        with pytest.raises(InputError, match=r"file\.exists"):
            write_place(path, b"second", replace=replace)
    assert path.read_bytes() == b"first"
    require_place(path, replace=True)
    write_place(path, b"second", replace=True)
    assert path.read_bytes() == b"second"
    require_place(tmp_path / "new")


def test_a_place_is_in_a_folder_that_takes_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(InputError, match=r"file\.missing"):
        require_place(tmp_path / "no" / "new", replace=True)
    (tmp_path / "file").touch()
    with pytest.raises(OperationalError, match=r"file\.unwritable"):
        require_place(tmp_path / "file" / "new")
    # Root may write anywhere: who may not is told so by the system.
    monkeypatch.setattr(os, "access", lambda *_: False)
    with pytest.raises(OperationalError, match=r"file\.unwritable"):
        require_place(tmp_path / "new")
