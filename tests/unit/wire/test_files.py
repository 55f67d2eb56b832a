# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test that a service's own file is never opened through a link, and a named file is read up to a bound."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from veilleuse.wire import files

WRITING = os.O_RDWR | os.O_CREAT | os.O_TRUNC
SECRET = b"nobody's business"


@pytest.fixture
def canary(tmp_path):
    """Return a file that no attack may change or read."""
    path = tmp_path / "canary"
    path.write_bytes(SECRET)
    path.chmod(0o600)
    return path


@pytest.fixture
def own(tmp_path):
    """Return a path in the service's directory."""
    folder = tmp_path / "own"
    folder.mkdir(mode=0o700)
    return folder / "file"


def foreign(path: Path, _: Path) -> None:
    """Write a file of another user."""
    path.write_bytes(SECRET)
    os.chown(path, 12345, -1)


def open_to_others(path: Path, _: Path) -> None:
    """Write a file that its group may write."""
    path.write_bytes(SECRET)
    path.chmod(0o620)


ATTACKS = {
    "symbolic link": lambda path, canary: path.symlink_to(canary),
    "dangling link": lambda path, canary: path.symlink_to(canary.with_name("made")),
    "hard link": lambda path, canary: path.hardlink_to(canary),
    "pipe": lambda path, _: os.mkfifo(path, 0o600),
    "directory": lambda path, _: path.mkdir(),
    "foreign": foreign,
    "open to others": open_to_others,
}
WORDS = {
    "symbolic link": "symbolic link",
    "dangling link": "symbolic link",
    "hard link": "hard links",
    "pipe": "it is a pipe",
    "directory": "it is a directory",
    "foreign": "of user 12345",
    "open to others": "others may write it",
}


@pytest.mark.parametrize("flags", [os.O_RDONLY, WRITING])
@pytest.mark.parametrize("attack", ATTACKS)
def test_what_is_no_file_of_the_service_is_neither_read_nor_changed(own, canary, attack, flags):
    """A link or foreign file is not opened: `lock` and `register.jsonl` were emptied wherever a link led."""
    if attack == "foreign" and os.geteuid() != 0:
        pytest.skip("only root gives files away")
    ATTACKS[attack](own, canary)
    with pytest.raises(files.FileRefused) as refused:
        files.open_owned(own, flags)
    assert WORDS[attack] in str(refused.value.strerror)
    with pytest.raises(files.FileRefused):
        files.check_owned(own.with_name("f"), "ile")
    assert canary.read_bytes() == SECRET
    assert sorted(one.name for one in canary.parent.iterdir()) == ["canary", "own"]


def test_a_good_file_is_made_private_read_and_replaced(own):
    """Files are private under the umask 0, readable up to their bound, and replaceable."""
    before = os.umask(0)
    try:
        files.replace_owned(own, b"one")
        os.close(files.open_owned(own.with_name("two"), WRITING))
    finally:
        os.umask(before)
    assert files.read_owned(own, 3) == b"one"
    assert files.check_owned(own, "-wal") == (own.stat().st_dev, own.stat().st_ino)
    assert {one.stat().st_mode & 0o777 for one in own.parent.iterdir()} == {0o600}
    with pytest.raises(files.TooLong, match="it has 3 bytes, at most 2 are read"):
        files.read_owned(own, 2)


def test_writing_over_a_link_replaces_the_link(own, canary):
    """Neither a link at the name nor one at the temporary name decides what is overwritten."""
    own.symlink_to(canary)
    own.with_name("file.new").symlink_to(canary)
    files.replace_owned(own, b"new")
    assert (own.read_bytes(), own.is_symlink(), canary.read_bytes()) == (b"new", False, SECRET)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root meets another user's folder")
def test_root_follows_no_link_out_of_a_folder_of_the_service(tmp_path, canary):
    """A link in the service's folder, such as `ca` to /etc, is refused; root's own link is followed."""
    service, elsewhere = tmp_path / "service", tmp_path / "elsewhere"
    service.mkdir()
    elsewhere.mkdir()
    os.chown(service, 12345, 12345)
    (service / "ca").symlink_to(elsewhere)
    for act in (
        lambda: files.replace_owned(service / "ca" / "key", b"x"),
        lambda: files.remove_owned(service / "ca" / "key"),
        lambda: files.read_owned(service / "ca" / "key", 10),
        lambda: files.make_own_folder(service / "ca" / "below"),
    ):
        with pytest.raises(files.FileRefused, match="'ca' is a symbolic link"):
            act()
    assert list(elsewhere.iterdir()) == []
    (tmp_path / "larger").symlink_to(elsewhere)
    files.replace_owned(tmp_path / "larger" / "key", b"x")
    assert (elsewhere / "key").read_bytes() == b"x"


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_what_root_makes_belongs_to_the_service(tmp_path):
    """Files that root makes belong to the service: otherwise it could not open its `lock` or key."""
    service = tmp_path / "service"
    service.mkdir()
    os.chown(service, 12345, 12346)
    os.close(files.open_owned(service / "lock", WRITING))
    files.replace_owned(service / "key", b"x")
    files.make_own_folder(service / "ca")
    assert {(one.stat().st_uid, one.stat().st_gid) for one in service.iterdir()} == {(12345, 12346)}


def test_an_endless_device_is_read_up_to_the_bound():
    """/dev/zero is read up to the bound: it was read until memory ran out."""
    with pytest.raises(files.TooLong, match=r"it goes on after 70,000 bytes, the most that are read"):
        files.read_named(Path("/dev/zero"), 70_000)
    assert files.read_named(Path("/dev/null"), 1) == b""


def test_a_large_file_is_refused_before_it_is_read(tmp_path):
    """A sparse file of a terabyte is refused by its size."""
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(files.TooLong, match=r"it has 1,099,511,627,776 bytes, at most 10 are read"):
        files.read_named(path, 10)


def test_a_pipe_nobody_writes_to_is_said(tmp_path, monkeypatch):
    """A pipe without a writer is refused after a wait: opening it hung."""
    monkeypatch.setattr(files, "PIPE_WAIT_SECONDS", 0.1)
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(files.FileRefused, match=r"a pipe that nobody wrote to within 0\.1 s"):
        files.read_named(path, 10)
    with pytest.raises(files.FileRefused, match="it is a pipe, no regular file"):
        files.read_with_status(path, 10, regular=True)
    monkeypatch.setattr(files, "PIPE_WAIT_SECONDS", 10.0)
    writer = threading.Thread(target=path.write_bytes, args=(b"late",))
    writer.start()
    assert files.read_named(path, 10) == b"late"
    writer.join()


def test_a_pipe_of_the_shell_is_waited_for(monkeypatch):
    """The pipe of `<(command)` or /dev/stdin is read to its end, however slow its writer."""
    monkeypatch.setattr(files, "PIPE_WAIT_SECONDS", 0.05)
    reading, writing = os.pipe()

    def write() -> None:
        os.write(writing, b"slow")
        os.close(writing)

    later = threading.Timer(0.3, write)
    later.start()
    try:
        assert files.read_named(Path(f"/dev/fd/{reading}"), 10) == b"slow"
    finally:
        later.join()
        os.close(reading)


def test_a_directory_is_no_file(tmp_path):
    """The message says that it is a directory."""
    with pytest.raises(files.FileRefused, match="it is a directory, no regular file"):
        files.read_named(tmp_path, 10)
