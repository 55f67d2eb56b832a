# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Opens files safely: those of a service's directory (`…_owned`), and those a person names (`…_named`).

Root runs commands in a directory of the service, whose account could place a link there. `open_owned` follows
no link. It only opens a regular file with one name that nobody else may write. A named file may be an endless
device, or a pipe without a writer: `read_named` limits both.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

PIPE_WAIT_SECONDS: Final = 10.0
"""Longest wait for the writer of a named pipe; a pipe of the shell always has a writer."""
AUTHORITIES_BYTES: Final = 4 << 20
"""Largest size of a file of trusted certificates; the system's own file has a quarter of a MiB."""
_BY_FOLDER: Final = os.open in os.supports_dir_fd
"""False on Windows.

There, links need an administrator's right, and the folder's access list protects its files.
"""
_QUIET: Final = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NONBLOCK", "O_NOCTTY", "O_BINARY"))
_FOLDER: Final = sum(getattr(os, name, 0) for name in ("O_CLOEXEC", "O_DIRECTORY", "O_PATH"))
_NO_LINK: Final = getattr(os, "O_NOFOLLOW", 0)


class FileRefused(OSError):
    """The file exists, but is not read or written: `strerror` gives the reason."""


class TooLong(FileRefused):
    """The file has more bytes than the limit."""


# ------------------------------------------------------------------- files of a service's own directory


@contextmanager
def own_folder(path: Path) -> Iterator[int]:
    """Open a folder and yield its descriptor, for `dir_fd` parameters. Raises FileRefused, OSError.

    A link in the path is followed only in a folder of root or this user: nobody else can have placed it.
    """
    at = os.open(path.anchor or ".", _FOLDER)
    try:
        for part in path.parts[bool(path.anchor) :]:
            below = _open_below(at, part, path)
            os.close(at)
            at = below
        yield at
    finally:
        os.close(at)


def _open_below(at: int, part: str, path: Path) -> int:
    try:
        return os.open(part, _FOLDER | _NO_LINK, dir_fd=at)
    except OSError as error:
        if error.errno not in (errno.ENOTDIR, errno.ELOOP):
            raise OSError(error.errno, error.strerror, str(path)) from error
    if not stat.S_ISLNK(os.lstat(part, dir_fd=at).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(path))
    if os.fstat(at).st_uid not in (0, os.geteuid()):
        raise _refusal(path, f"its folder '{part}' is a symbolic link", "make it a folder")
    return os.open(part, _FOLDER, dir_fd=at)


def open_owned(path: Path, flags: int, mode: int = 0o600, *, give: bool = True) -> int:
    """Open a file of a service's own directory; `mode` applies to a new file. Raises FileRefused, OSError.

    With `give`, a file that root creates is given to the owner of the folder, so that the service can use it.
    """
    if not _BY_FOLDER:
        with suppress(FileNotFoundError):
            _check(path, os.lstat(path), None)
        return os.open(path, flags | _QUIET, mode)
    with own_folder(path.parent) as at:
        folder = os.fstat(at)
        new = not _check_if_present(path, at, folder)
        descriptor = os.open(path.name, flags & ~os.O_TRUNC | _QUIET | _NO_LINK, mode, dir_fd=at)
        try:
            found = os.fstat(descriptor)
            if not flags & os.O_EXCL:  # the file may have been exchanged
                _check(path, found, folder)
            if (
                give
                and new
                and os.geteuid() == 0
                and (found.st_uid, found.st_gid) != (folder.st_uid, folder.st_gid)
            ):
                os.fchown(descriptor, folder.st_uid, folder.st_gid)
            if flags & os.O_TRUNC:
                os.ftruncate(descriptor, 0)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor


def read_owned(path: Path, maximum_bytes: int) -> bytes:
    """Read a whole file of a service's directory. Raises FileRefused, also for too many bytes;

    FileNotFoundError, OSError.
    """
    descriptor = open_owned(path, os.O_RDONLY)
    try:
        return _read(descriptor, path, maximum_bytes)
    finally:
        os.close(descriptor)


def replace_owned(path: Path, content: bytes, *, give: bool = True) -> None:
    """Write such a file as a whole, mode 0600, durably; replace a link too. Raises FileRefused, OSError."""
    draft = path.with_name(f"{path.name}.new")
    remove_owned(draft)
    descriptor = open_owned(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, give=give)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(descriptor)
    rename_owned(draft, path)
    sync_folder(path.parent)


def rename_owned(old: Path, new: Path) -> None:
    """Rename a file, also into another folder; an existing file is replaced. Raises FileRefused, OSError."""
    with own_folder(old.parent) as source, own_folder(new.parent) as target:
        os.replace(old.name, new.name, src_dir_fd=source, dst_dir_fd=target)


def remove_owned(path: Path) -> None:
    """Remove a file, or the link itself, if present. Raises FileRefused, OSError."""
    if not _BY_FOLDER:
        path.unlink(missing_ok=True)
        return
    with suppress(FileNotFoundError), own_folder(path.parent) as at:
        os.unlink(path.name, dir_fd=at)


def make_own_folder(path: Path) -> None:
    """Create a folder, mode 0700, if absent; a folder made by root gets the owner of its parent.

    Raises FileRefused, OSError.
    """
    with own_folder(path.parent) as above:
        with suppress(FileExistsError):
            os.mkdir(path.name, 0o700, dir_fd=above)
            owner = os.fstat(above)
            if os.geteuid() == 0 and owner.st_uid != 0:
                os.chown(path.name, owner.st_uid, owner.st_gid, dir_fd=above, follow_symlinks=False)
        os.close(os.open(path.name, _FOLDER | _NO_LINK, dir_fd=above))


def sync_folder(path: Path) -> None:
    """Make renames in a folder survive a power cut. Raises FileRefused, OSError."""
    with own_folder(path) as at:
        descriptor = os.open(".", os.O_RDONLY | _QUIET, dir_fd=at)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def check_owned(path: Path, *endings: str) -> tuple[int, int]:
    """Check a file that is opened by name, as SQLite does, and return (device, inode); (0, 0) if absent.

    Files beside it, named with one of the `endings`, are checked too. Raises FileRefused, OSError.
    """
    if not _BY_FOLDER:
        return (0, 0)
    with own_folder(path.parent) as at:
        folder = os.fstat(at)
        for ending in endings:
            _check_if_present(path.with_name(path.name + ending), at, folder)
        if not _check_if_present(path, at, folder):
            return (0, 0)
        found = os.lstat(path.name, dir_fd=at)
        return found.st_dev, found.st_ino


def _check_if_present(path: Path, at: int, folder: os.stat_result) -> bool:
    """Check a file if it exists, and return whether it does."""
    try:
        _check(path, os.lstat(path.name, dir_fd=at), folder)
    except FileNotFoundError:
        return False
    return True


def _check(path: Path, found: os.stat_result, folder: os.stat_result | None) -> None:
    """Raise FileRefused for an unsafe file. `folder` is None where owners and modes mean nothing."""
    if stat.S_ISLNK(found.st_mode):
        raise _refusal(path, "it is a symbolic link", "remove it")
    if not stat.S_ISREG(found.st_mode):
        raise _refusal(path, f"it is {kind_of(found.st_mode)}", "remove it")
    if folder is None:
        return
    if found.st_nlink > 1:
        raise _refusal(path, f"it has {found.st_nlink} names (hard links)", "remove it, keep a copy")
    if found.st_uid not in (0, folder.st_uid, os.geteuid()):
        whose = f"it is of user {found.st_uid}, its folder of user {folder.st_uid}"
        raise _refusal(path, whose, "give it to that one (chown) if you know it")
    if found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise _refusal(path, f"others may write it (mode {stat.S_IMODE(found.st_mode):04o})", "chmod go-w it")


def _refusal(path: Path, why: str, remedy: str) -> FileRefused:
    text = f"{why}, where a file of the service belongs: see who put it there, then {remedy}"
    return FileRefused(errno.EPERM, text, str(path))


def kind_of(mode: int) -> str:
    """Name the kind of a file that is not regular."""
    kinds = {stat.S_IFDIR: "a directory", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
    return kinds.get(stat.S_IFMT(mode), "a device")


# ----------------------------------------------------------------------------- files that a person names


def read_named(path: Path, maximum_bytes: int) -> bytes:
    """Read a whole file, or a pipe that ends. Raises TooLong, FileRefused, OSError."""
    return read_with_status(path, maximum_bytes)[0]


def is_secret(found: os.stat_result, *, group_reads: bool = False) -> bool:
    """Tell whether the mode of a file keeps others out; with `group_reads` its group may read it."""
    return not found.st_mode & (0o027 if group_reads else 0o077)


def read_with_status(
    path: Path, maximum_bytes: int, *, regular: bool = False
) -> tuple[bytes, os.stat_result]:
    """Read like `read_named`, and return the status of the same file.

    `regular` refuses all but regular files.
    """
    descriptor = open_named(path, regular=regular)
    try:
        return _read(descriptor, path, maximum_bytes), os.fstat(descriptor)
    finally:
        os.close(descriptor)


def open_named(path: Path, *, regular: bool = True) -> int:
    """Open a file for reading. Raises FileRefused for a directory, or if it is not `regular`; OSError."""
    descriptor = os.open(path, os.O_RDONLY | _QUIET)
    try:
        found = os.fstat(descriptor)
        if stat.S_ISDIR(found.st_mode) or (regular and not stat.S_ISREG(found.st_mode)):
            raise FileRefused(errno.EINVAL, f"it is {kind_of(found.st_mode)}, no regular file", str(path))
        if stat.S_ISFIFO(found.st_mode):
            _require_writer(descriptor, path, found)
        if not stat.S_ISREG(found.st_mode) and hasattr(os, "set_blocking"):
            os.set_blocking(descriptor, True)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def read_authorities(path: Path) -> str:
    """Read trusted PEM certificates for `cadata` of an SSLContext: OpenSSL itself reads without a limit.

    Raises OSError, and FileRefused, also for a file without certificates: an SSLContext would then use those
    of the system.
    """
    text = read_named(path, AUTHORITIES_BYTES).decode("ascii", "ignore")
    if "CERTIFICATE-----" not in text:
        raise FileRefused(errno.EINVAL, "it holds no certificate in PEM", str(path))
    return text


def _require_writer(descriptor: int, path: Path, found: os.stat_result) -> None:
    """Raise FileRefused when a named pipe has no data in time; a pipe of the shell ends with its writer."""
    reading, writing = os.pipe()
    of_a_shell = os.fstat(reading).st_dev == found.st_dev
    os.close(reading)
    os.close(writing)
    if of_a_shell:
        return
    import select  # imported only for a pipe, to save memory

    if not select.select([descriptor], [], [], PIPE_WAIT_SECONDS)[0]:
        raise FileRefused(
            errno.ETIMEDOUT,
            f"it is a pipe that nobody wrote to within {PIPE_WAIT_SECONDS:g} s: start its writer first",
            str(path),
        )


def _read(descriptor: int, path: Path, maximum_bytes: int) -> bytes:
    found = os.fstat(descriptor)
    expected = found.st_size if stat.S_ISREG(found.st_mode) else maximum_bytes
    if expected > maximum_bytes:
        raise TooLong(
            errno.EFBIG, f"it has {expected:,} bytes, at most {maximum_bytes:,} are read", str(path)
        )
    with os.fdopen(descriptor, "rb", closefd=False) as file:
        content = file.read(expected + 1)
        if expected < len(content) <= maximum_bytes:  # it grows, or its size is unknown: /proc
            content += file.read(maximum_bytes + 1 - len(content))
    if len(content) > maximum_bytes:
        raise TooLong(
            errno.EFBIG, f"it goes on after {maximum_bytes:,} bytes, the most that are read", str(path)
        )
    return content
