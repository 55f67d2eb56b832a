# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads the CPU time of systemd services, QEMU guests and containers from their control groups.

For servers only, and opt-in (`measure.units`). Read: `system.slice/**/*.service`,
`machine.slice/**/machine-qemu*.scope`, `qemu.slice/*.scope`, and containers as one part. Never read:
`user.slice`, which is about people. A service's name that may be a person's never leaves the server, nor does
a guest's own name: docs/guarantees.md P2.

Sources: kernel Documentation/admin-guide/cgroup-v2.rst (cpu.stat) and cgroup-v1/cpuacct.rst (cpuacct.usage,
ns); systemd's docs/CONTROL_GROUP_INTERFACE.md; libvirt's docs/cgroups.rst; Kubernetes' and Docker's pages on
their cgroup drivers; systemd.unit(5), String Escaping for Inclusion in Unit Names; passwd(5); login.defs(5),
UID_MIN; systemd's docs/UIDS-GIDS.md. `qemu.slice` (Proxmox VE) and the names of containers' groups are from
memory.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from typing import Final, NamedTuple

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import Point, Reading, UnitReading
from veilleuse.agent.ports import SourceContext
from veilleuse.wire.limits import CONTAINERS, OTHER_UNITS, fact_text
from veilleuse.wire.units import MICROSECONDS_PER_MILLISECOND

MOST_GROUPS: Final = 512
"""Largest number of control groups read one by one; the others count in the rest of the system."""
KEPT_OPEN: Final = 256
"""Groups whose file stays open: a read is four times cheaper. systemd allows a service 1,024 files."""
MOST_NAMES: Final = 1_024
"""Largest number of names whose ended groups are kept."""
SERVICES: Final = "system.slice"
HIERARCHIES: Final = (
    ("", "cpu.stat"),  # unified
    ("/unified", "cpu.stat"),  # hybrid: systemd keeps its tree there too
    ("/cpu,cpuacct", "cpuacct.usage"),  # legacy: only groups with CPU accounting
    ("/cpuacct", "cpuacct.usage"),
)
"""(folder below fs/cgroup, file of a group); the first hierarchy that has services is read."""
_USAGE: Final = re.compile(rb"(?:usage_usec )?(\d{1,19})$", re.MULTILINE)
"""First line of cpu.stat (µs), or all of cpuacct.usage (ns)."""
_MOST_MICROSECONDS: Final = 10**16
"""Largest plausible value, 300 years."""
_GUEST: Final = re.compile(r"machine-qemu\\x2d\d+\\x2d(.+)\.scope")
"""libvirt's name of a guest, after the number of its start."""
_NUMBERED_GUEST: Final = re.compile(r"(\d{1,9})\.scope")
_GUESTS: Final = {"machine.slice": _GUEST, "qemu.slice": _NUMBERED_GUEST}
_CONTAINER: Final = re.compile(r"(docker|nerdctl|crio|cri-containerd|libpod|podman|machine)-.+\.scope")
"""Group of one container, or of its monitor; `machine-` is systemd-nspawn's, unless it is a guest."""
_CONTAINERS: Final = re.compile(r"kubepods(\.slice)?|docker|lxc|lxc\.payload\..+|libpod_parent")
"""Group at the root of the hierarchy that holds only containers; it counts as a whole."""


class _GroupEntry(NamedTuple):
    """A control group that exists now."""

    inode: int
    """cgroupfs never uses an inode number twice: a restarted service has another one."""
    folder: str
    slice_name: str


class _Group:
    """A control group that is read at each tick."""

    __slots__ = ("descriptor", "inode", "microseconds", "name")

    def __init__(self, name: str, inode: int) -> None:
        self.name = name
        self.inode = inode
        self.descriptor = -1
        self.microseconds: int | None = None
        """CPU time used by the group; None until its first read."""


class LinuxUnits:
    """`ports.Source` of one `UnitReading` a name. It has no point: it reads no energy."""

    name = "linux_units"

    def __init__(self, context: SourceContext) -> None:
        self._cgroups = f"{context.sysfs}/fs/cgroup"
        self._people = People(f"{os.path.dirname(context.sysfs.rstrip('/')).rstrip('/')}/etc/passwd")
        self._salt = context.salt
        self._key = b""
        self._root = ""
        self._file = ""
        self._scale = 1
        self._groups: dict[str, _Group] = {}
        """Control groups by path."""
        self._ended: dict[str, int] = {}
        """Name → µs used by its ended groups, so that the sum of a name never falls."""
        self._open_files = 0

    def open(self) -> tuple[Point, ...]:
        """Find the hierarchy.

        Raises SourceUnavailable when no hierarchy counts the CPU time of systemd's services.
        """
        for folder, file in HIERARCHIES:
            self._root, self._file = f"{self._cgroups}{folder}", file
            self._scale = 1 if file == "cpu.stat" else 1_000
            if self._microseconds(_read(f"{self._root}/{SERVICES}/{file}")) is not None:
                return ()
        if os.path.isdir(f"{self._cgroups}/systemd/{SERVICES}"):
            raise SourceUnavailable(
                "no_device",
                "systemd does not count the CPU time of services here",
                "DefaultCPUAccounting=yes in /etc/systemd/system.conf, or the unified hierarchy",
            )
        raise SourceUnavailable("no_device", f"no services of systemd under {self._cgroups}")

    def read(self) -> tuple[Reading, ...]:
        """Return the CPU time of every running service and guest. Raises ReadFailed when none can be read."""
        self._update_groups()
        totals: dict[str, int] = {}
        answered = False
        for path, group in self._groups.items():
            spent = self._microseconds(self._text(path, group))
            if spent is not None:
                answered = True
                group.microseconds = max(spent, group.microseconds or 0)
            if group.microseconds is not None:
                totals[group.name] = totals.get(group.name, 0) + group.microseconds
        if not answered:
            raise ReadFailed(f"no control group under {self._root} could be read")
        return tuple(
            UnitReading(name, (self._ended.get(name, 0) + spent) // MICROSECONDS_PER_MILLISECOND)
            for name, spent in totals.items()
        )

    def close(self) -> None:
        """Close the files; the counted times are kept."""
        for group in self._groups.values():
            self._close_file(group)

    # ------------------------------------------------------------------------------------- groups

    def _update_groups(self) -> None:
        """Add the new groups, and keep the sums of the ended ones.

        Raises ReadFailed when the groups cannot be listed.
        """
        try:
            found = dict(self._list_groups())
        except OSError as error:
            raise ReadFailed(f"{error.filename}: {error.strerror}") from error
        for path, group in tuple(self._groups.items()):
            if path not in found or found[path].inode != group.inode:
                self._end_group(group)
                del self._groups[path]
        for path, one in found.items():
            if path not in self._groups and len(self._groups) < MOST_GROUPS and (name := self._name(one)):
                self._groups[path] = _Group(name, one.inode)

    def _end_group(self, group: _Group) -> None:
        self._close_file(group)
        self._ended[group.name] = self._ended.get(group.name, 0) + (group.microseconds or 0)
        if len(self._ended) > MOST_NAMES:
            living = {one.name for one in self._groups.values()}
            self._ended = {name: spent for name, spent in self._ended.items() if name in living}

    def _list_groups(self) -> Iterator[tuple[str, _GroupEntry]]:
        # raises: a missing or unreadable folder does not mean that there are no services
        os.stat(f"{self._root}/{SERVICES}")
        for slice_name in (SERVICES, *_GUESTS):
            waiting = [f"{self._root}/{slice_name}"]
            wanted = (".service", ".scope") if slice_name == SERVICES else (".scope",)
            while waiting:
                folder = waiting.pop()
                for entry, inode in _children(folder, (".slice", *wanted)):
                    path = f"{folder}/{entry}"
                    if entry.endswith(wanted):
                        yield path, _GroupEntry(inode, entry, slice_name)
                    else:
                        waiting.append(path)
        for entry, inode in _children(self._root, None):
            if _CONTAINERS.fullmatch(entry):
                yield f"{self._root}/{entry}", _GroupEntry(inode, entry, "")

    def _name(self, found: _GroupEntry) -> str | None:
        """Return the unit's name; None when the group counts in the rest of the system."""
        if not found.slice_name:
            return CONTAINERS
        if found.folder.endswith(".service"):
            return unit_name(found.folder, self._people.words())
        if _CONTAINER.fullmatch(found.folder) and not _GUEST.fullmatch(found.folder):
            return CONTAINERS
        if found.slice_name == SERVICES:
            return None
        matched = _GUESTS[found.slice_name].fullmatch(found.folder)
        key = self._key or self._read_key()
        return f"guest:{pseudonym(key, matched[1])}" if matched and key else None

    def _read_key(self) -> bytes:
        """Return the key; empty until the sender has written the salt, before its first contact.

        Until then guests count in the rest of the system.
        """
        salt = _read(self._salt) if self._salt else b""
        self._key = salt[:KEY_BYTES] if len(salt) >= KEY_BYTES else b""
        return self._key

    # -------------------------------------------------------------------------------------- files

    def _text(self, path: str, group: _Group) -> bytes:
        """Return the file's text; empty when it cannot be read."""
        try:
            if group.descriptor >= 0:
                return os.pread(group.descriptor, 64, 0)
            if self._open_files >= KEPT_OPEN:
                return _read(f"{path}/{self._file}")
            group.descriptor = os.open(f"{path}/{self._file}", os.O_RDONLY | os.O_CLOEXEC)
            self._open_files += 1
            return os.pread(group.descriptor, 64, 0)
        except OSError:
            return b""

    def _close_file(self, group: _Group) -> None:
        if group.descriptor >= 0:
            os.close(group.descriptor)
            self._open_files -= 1
            group.descriptor = -1

    def _microseconds(self, text: bytes) -> int | None:
        matched = _USAGE.match(text)
        if matched is None:
            return None
        spent = int(matched[1]) // self._scale
        return spent if spent <= _MOST_MICROSECONDS else None


def _children(folder: str, wanted: tuple[str, ...] | None) -> list[tuple[str, int]]:
    """Return (name, inode) of the entries with such an ending, None = all; empty when the folder is gone.

    Raises OSError.
    """
    try:
        with os.scandir(folder) as found:
            return [(one.name, one.inode()) for one in found if wanted is None or one.name.endswith(wanted)]
    except FileNotFoundError:
        return []


def _read(path: str) -> bytes:
    """Return the file's first 64 bytes; empty when it cannot be read."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        return os.read(descriptor, 64)
    except OSError:
        return b""
    finally:
        os.close(descriptor)


# ------------------------------------------------------------------------------------- names

FIRST_PERSON: Final = 1_000
"""Accounts with a lower number are system accounts: login.defs(5)."""
NOBODY: Final = 65_534
_TRANSIENT: Final = re.compile(r"run-[rup]?[0-9a-f]+(-i?\d+)?")
"""Name made by systemd-run, another one each time."""
_ACTIVATED: Final = re.compile(r"dbus-:\d+\.\d+-")
"""Number given by the message bus, another one each time."""
_ESCAPED: Final = re.compile(r"\\x(2d|2b|7e|20)")
"""Escapes of - + ~ and space.

Other escaped characters (an @, a path, accents) do not come from a service's name.
"""
_NUMBERS: Final = re.compile(
    r"(?<![0-9A-Za-z])(?:[0-9a-f]{12,}|\d{1,3}(?:[.-]\d{1,3}){3}|(?:[0-9a-f]{2}[:-]){5}[0-9a-f]{2})"
    r"(?![0-9A-Za-z])"
    r"|\d{4,}",
    re.IGNORECASE,
)
"""Numbers of a person, a machine or a container: hexadecimal ids, network addresses, account numbers."""
_WORD: Final = re.compile(r"[^\W\d_]+\d*")
_SHORTEST_WORD: Final = 3
_LONGEST_NAME: Final = 58
"""Length of wire.limits.UNIT_PATTERN, without its prefix."""
_LARGEST_BYTES: Final = 1 << 20


class People:
    """Words of this machine's personal accounts, read again when the list changes.

    The words are only compared, and never stored elsewhere.
    """

    def __init__(self, passwd: str) -> None:
        self._passwd = passwd
        self._stamp: tuple[int, int, int] | None = None
        self._words: frozenset[str] = frozenset()

    def words(self) -> frozenset[str]:
        """Return the words in lower case.

        Empty when there is no list; the former words when the list cannot be read now.
        """
        try:
            status = os.stat(self._passwd)
            stamp = (status.st_ino, status.st_mtime_ns, status.st_size)
            if stamp != self._stamp:
                with open(self._passwd, "rb") as file:
                    text = file.read(_LARGEST_BYTES).decode("utf-8", "replace")
                self._words, self._stamp = people_of(text), stamp
        except OSError:
            pass
        return self._words


def people_of(passwd: str) -> frozenset[str]:
    """Return logins and words of full names, of accounts from number 1000 on, from a passwd(5) list."""
    words: set[str] = set()
    for line in passwd.splitlines():
        login, _, rest = line.partition(":")
        fields = rest.split(":")
        if len(fields) < 4 or not fields[1].isdecimal() or not fields[1].isascii():
            continue
        number = int(fields[1])
        if number < FIRST_PERSON or number == NOBODY:
            continue
        found = _WORD.findall(f"{login} {fields[3].partition(',')[0]}".lower())
        words |= {login.lower(), *(word for word in found if len(word) >= _SHORTEST_WORD)}
    return frozenset(words - {""})


def unit_name(folder: str, people: frozenset[str] = frozenset()) -> str:
    """Return `unit:<name>` of a service's control group, in the wire's letters.

    OTHER_UNITS when the name may be a person's. The name has no instance (it may be a person, a host, a
    session), no number of a person, machine or container, no word of `people`.
    """
    name = folder.removesuffix(".service").partition("@")[0]
    if not name.isascii() or "\\" in _ESCAPED.sub("", name):
        return OTHER_UNITS
    name = _ESCAPED.sub(lambda escaped: chr(int(escaped[1], 16)), name)
    if _TRANSIENT.fullmatch(name):
        name = "run"
    if _names_somebody(name.lower(), people):
        return OTHER_UNITS
    cleaned = fact_text(_NUMBERS.sub("_", _ACTIVATED.sub("dbus-", name)))
    unit = f"unit:{cleaned.strip(' ._-')[:_LONGEST_NAME].rstrip()}" if cleaned else ""
    return OTHER_UNITS if unit in ("", "unit:", CONTAINERS) else unit


def _names_somebody(name: str, people: frozenset[str]) -> bool:
    """Tell whether the name has an account's word: `alice` is in `backup-of-alice`, but not in `malice`."""
    return any(re.search(rf"(?<![a-z0-9]){re.escape(word)}(?![a-z0-9])", name) is not None for word in people)


# ------------------------------------------------------------------------------- pseudonyms

KEY_BYTES: Final = 16
_UINT64_MAX: Final = 2**64 - 1
_INITIAL_STATE: Final = (0x736F6D6570736575, 0x646F72616E646F6D, 0x6C7967656E657261, 0x7465646279746573)


def pseudonym(key: bytes, name: str) -> str:
    """Return 16 hexadecimal digits, the same for a name while the key is the same.

    Raises ValueError unless the key has 16 bytes.
    """
    return f"{siphash(key, name.encode()):016x}"


def siphash(key: bytes, text: bytes) -> int:
    """Return SipHash-2-4 of `text`, 64 bits. Raises ValueError unless the key has 16 bytes."""
    if len(key) != KEY_BYTES:
        raise ValueError(f"a key of {len(key)} bytes, not {KEY_BYTES}")
    low, high = int.from_bytes(key[:8], "little"), int.from_bytes(key[8:], "little")
    state = tuple(one ^ half for one, half in zip(_INITIAL_STATE, (low, high, low, high), strict=True))
    whole = text + bytes(-(len(text) + 1) % 8) + bytes([len(text) % 256])
    for start in range(0, len(whole), 8):
        word = int.from_bytes(whole[start : start + 8], "little")
        v0, v1, v2, v3 = state
        state = _rounds((v0, v1, v2, v3 ^ word), 2)
        state = (state[0] ^ word, *state[1:])
    v0, v1, v2, v3 = state
    v0, v1, v2, v3 = _rounds((v0, v1, v2 ^ 0xFF, v3), 4)
    return v0 ^ v1 ^ v2 ^ v3


def _rounds(state: tuple[int, int, int, int], times: int) -> tuple[int, int, int, int]:
    v0, v1, v2, v3 = state
    for _ in range(times):
        v0, v2 = (v0 + v1) & _UINT64_MAX, (v2 + v3) & _UINT64_MAX
        v1, v3 = _rotate(v1, 13) ^ v0, _rotate(v3, 16) ^ v2
        v0 = _rotate(v0, 32)
        v2, v0 = (v2 + v1) & _UINT64_MAX, (v0 + v3) & _UINT64_MAX
        v1, v3 = _rotate(v1, 17) ^ v2, _rotate(v3, 21) ^ v0
        v2 = _rotate(v2, 32)
    return v0, v1, v2, v3


def _rotate(word: int, bits: int) -> int:
    return (word << bits | word >> (64 - bits)) & _UINT64_MAX
