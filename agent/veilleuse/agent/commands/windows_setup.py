# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
r"""`veilleuse-agent windows-setup`: the part of the installation that Windows Installer has no table for.

Everybody may create folders in %ProgramData%, so ours may be there before us: it is used only when an
administrator made it and everything in it. docs/windows.md.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
import struct
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from veilleuse.agent.errors import AgentError, AlreadyRunning, ConfigurationError
from veilleuse.agent.identity.join_file import read_join_file
from veilleuse.agent.identity.store import DIRECTORY, write_private
from veilleuse.agent.platforms import SYSTEM
from veilleuse.agent.platforms.locks import RUN_LOCK, ProcessLock
from veilleuse.agent.platforms.windows.calls import ServiceOptions, SetupCalls, WindowsCallError
from veilleuse.agent.platforms.windows.system import CONFIGURATION, STATE
from veilleuse.agent.service.windows_service import NAME
from veilleuse.agent.settings import JOIN_FILE, MAX_JOIN_FILE_BYTES, AgentSettings, read_settings
from veilleuse.wire.files import read_named
from veilleuse.wire.units import MILLISECONDS_PER_SECOND

if TYPE_CHECKING:
    import argparse

PROPERTIES: Final = {
    "collector": "collector.address",
    "entity": "collector.entity",
    "population": "measure.population",
}
"""Option → setting that it writes."""
OPTIONS: Final = ServiceOptions(
    restart_after_milliseconds=(5_000, 60_000, 900_000),
    failures_forgotten_seconds=86_400,
    privileges=("SeChangeNotifyPrivilege",),
    preshutdown_milliseconds=30_000,
)
"""As the unit of systemd: longer waits, no rights, 30 s to end."""
SYSTEM_SID, ADMINISTRATORS = "S-1-5-18", "S-1-5-32-544"
_REPARSE_POINT: Final = 0x400
_LOOK_SECONDS: Final = 0.2
_READ, _MODIFY = "0x1200a9", "0x1301bf"
"""Rights of the service: read and execute; also write and delete, but not change rights or owner."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the properties of the installer, and --remove."""
    for option, setting in PROPERTIES.items():
        parser.add_argument(f"--{option}", default="", help=f"write {setting} into a new agent.toml")
    parser.add_argument(
        "--join-file", default="", metavar="FILE", help="copy this join file for the service to enrol with"
    )
    parser.add_argument(
        "--remove", action="store_true", help="remove configuration, identity and spool (uninstallation)"
    )


def run(parsed: argparse.Namespace, settings: AgentSettings) -> int:
    """Return 0 when all is prepared, or removed. An error is written to the event log too."""
    if SYSTEM != "windows":
        raise AgentError("windows-setup is for Windows: packages of other systems need no such command")
    from veilleuse.agent.platforms.windows.setup_api import WindowsSetupCalls

    calls = WindowsSetupCalls()
    setup = Setup(calls, CONFIGURATION.parent)
    try:
        if parsed.remove:
            setup.remove()
        else:
            setup.secure_folders()
            setup.write_configuration({name: getattr(parsed, name) for name in PROPERTIES})
            setup.copy_join_file(parsed.join_file)
            setup.configure_service()
    except (AgentError, ConfigurationError, WindowsCallError, OSError) as error:
        calls.log_event(NAME, 1, f"error not {'removed' if parsed.remove else 'installed'}: {error}")
        raise AgentError(str(error)) from error
    return 0


class Setup:
    """Prepares or removes what is in a folder of %ProgramData%."""

    def __init__(self, calls: SetupCalls, folder: Path) -> None:
        self._calls = calls
        self._folder = folder
        self._state = folder / STATE.name
        self._trusted = {SYSTEM_SID, ADMINISTRATORS, service_sid(NAME), *calls.own_sids()}

    def secure_folders(self) -> None:
        """Create both folders, or take over what administrators made. Raises AgentError for others' files."""
        for folder, rights in ((self._folder, _READ), (self._state, _MODIFY)):
            access = access_list(rights)
            if not self._calls.make_folder(str(folder), access):
                self._require_all_ours(folder)
                self._calls.protect_folder(str(folder), access)
        self._require_all_ours(self._folder)  # now nobody else can add to it

    def write_configuration(self, values: Mapping[str, str]) -> None:
        """Write the configuration unless there is one. Raises ConfigurationError for a wrong value."""
        given = {PROPERTIES[name]: value for name, value in values.items() if value}
        file = self._folder / CONFIGURATION.name
        if not given or file.exists():
            return
        read_settings(None, environment={}, overrides=given)
        write_private(file, toml(given).encode("utf-8"))

    def copy_join_file(self, source: str) -> None:
        """Leave a join file for the service, unless it is enrolled. Raises IdentityError for a wrong one."""
        if not source or (self._state / DIRECTORY / "certificate.pem").exists():
            return
        read_join_file(Path(source))
        write_private(self._state / JOIN_FILE, read_named(Path(source), MAX_JOIN_FILE_BYTES))

    def configure_service(self) -> None:
        """Set what the installer's tables cannot: failure actions, privileges and the like."""
        if unknown := self._calls.configure_service(NAME, OPTIONS):
            self._calls.log_event(NAME, 2, f"warning this Windows does not know: {', '.join(unknown)}")

    def remove(self) -> None:
        """Remove configuration, identity, spool, and the profile that Windows made for the service.

        A service that is asked to stop first ends in order.
        """
        if os.path.lexists(self._folder):
            self._require_ours(self._folder)
            self._wait_for_end()
            shutil.rmtree(self._folder)
        try:
            self._calls.delete_profile(service_sid(NAME))
        except WindowsCallError as error:  # there is none where the service never ran
            self._calls.log_event(NAME, 4, f"info profile of the service not deleted: {error}")

    def _wait_for_end(self) -> None:
        until = time.monotonic() + OPTIONS.preshutdown_milliseconds / MILLISECONDS_PER_SECOND
        while self._state.exists() and time.monotonic() < until:
            try:
                ProcessLock(self._state, RUN_LOCK, what="the service").release()
            except AlreadyRunning:
                time.sleep(_LOOK_SECONDS)
            else:
                return

    def _require_all_ours(self, folder: Path) -> None:
        self._require_ours(folder)
        for root, folders, files in os.walk(folder):
            for name in (*folders, *files):
                self._require_ours(Path(root, name))

    def _require_ours(self, path: Path) -> None:
        found = path.lstat()
        link = stat.S_ISLNK(found.st_mode) or getattr(found, "st_file_attributes", 0) & _REPARSE_POINT
        link = link or (stat.S_ISREG(found.st_mode) and found.st_nlink > 1)
        owner = self._calls.owner(str(path))
        if link or owner not in self._trusted:
            raise AgentError(
                f"{path} {'is a link' if link else f'belongs to {owner}'}: no administrator made it. See who did, "
                f"remove {self._folder}, then install again"
            )


def access_list(rights: str) -> str:
    """Return an access list in SDDL: full control for SYSTEM and administrators, `rights` for the service."""
    full = "".join(f"(A;OICI;FA;;;{account})" for account in ("SY", "BA"))
    return f"D:P{full}(A;OICI;{rights};;;{service_sid(NAME)})"


def service_sid(name: str) -> str:
    """Return the SID of NT SERVICE\\`name`, which Windows derives from the name alone (SHA-1)."""
    digest = hashlib.sha1(name.upper().encode("utf-16-le"), usedforsecurity=False).digest()
    return "-".join(("S-1-5-80", *map(str, struct.unpack("<5I", digest))))


def toml(values: Mapping[str, str]) -> str:
    """Write `section.key` → text as TOML."""
    lines = ["# Written by the installer, which never changes it again."]
    for dotted, value in sorted(values.items()):
        section, _, key = dotted.partition(".")
        if f"[{section}]" not in lines:
            lines.append(f"[{section}]")
        lines.append(f"{key} = {json.dumps(value, ensure_ascii=False)}")
    return "\n".join(lines) + "\n"
