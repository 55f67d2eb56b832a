# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test what the installer of Windows runs, over a fake table of calls. Under Wine: tests/install."""

from __future__ import annotations

import threading
import tomllib
from pathlib import Path

import pytest

from veilleuse.agent.commands import main as command_line
from veilleuse.agent.commands import windows_setup
from veilleuse.agent.commands.windows_setup import (
    ADMINISTRATORS,
    OPTIONS,
    SYSTEM_SID,
    Setup,
    access_list,
    service_sid,
    toml,
)
from veilleuse.agent.errors import AgentError, ConfigurationError, IdentityError
from veilleuse.agent.platforms import SYSTEM
from veilleuse.agent.platforms.locks import RUN_LOCK, ProcessLock
from veilleuse.agent.platforms.windows.calls import ServiceOptions, WindowsCallError
from veilleuse.agent.settings import read_settings

SERVICE = service_sid("veilleuse-agent")
SOMEBODY = "S-1-5-21-1-2-3-1001"


class FakeSetup:
    """Implements `SetupCalls` on real folders, whose owners and access lists it remembers."""

    def __init__(self) -> None:
        self.owners: dict[str, str] = {}
        """Path → owner, where it is not SYSTEM."""
        self.access: dict[str, str] = {}
        self.options: dict[str, ServiceOptions] = {}
        self.unknown: tuple[str, ...] = ()
        self.profiles: set[str] = {SERVICE}
        self.events: list[tuple[int, str]] = []

    def own_sids(self) -> frozenset[str]:
        """Return an administrator's."""
        return frozenset({"S-1-5-21-1-2-3-500"})

    def owner(self, path: str) -> str:
        """Return the owner of a path that exists."""
        Path(path).lstat()
        return self.owners.get(path, SYSTEM_SID)

    def make_folder(self, path: str, access: str) -> bool:
        """Create a folder."""
        try:
            Path(path).mkdir()
        except FileExistsError:
            return False
        self.access[path] = access
        return True

    def protect_folder(self, path: str, access: str) -> None:
        """Remember the access list of a folder."""
        assert Path(path).is_dir()
        self.access[path] = access

    def configure_service(self, name: str, options: ServiceOptions) -> tuple[str, ...]:
        """Remember the options."""
        self.options[name] = options
        return self.unknown

    def delete_profile(self, sid: str) -> None:
        """Delete a profile that exists."""
        if sid not in self.profiles:
            raise WindowsCallError("DeleteProfileW", 2)
        self.profiles.remove(sid)

    def log_event(self, source: str, kind: int, text: str) -> None:
        """Record an event."""
        self.events.append((kind, text))


@pytest.fixture
def calls() -> FakeSetup:
    """Return a fake Windows."""
    return FakeSetup()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder in %ProgramData%, which does not exist yet."""
    return tmp_path / "Veilleuse"


def test_the_sid_of_a_service_is_windows_own():
    """The derivation gives the published SID of a service of Windows."""
    published = "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464"
    assert service_sid("TrustedInstaller") == published


def test_folders_are_made_with_their_access_list(calls, folder):
    """The service may write in its state only; nothing is inherited from %ProgramData%."""
    Setup(calls, folder).secure_folders()
    full = "D:P(A;OICI;FA;;;SY)(A;OICI;FA;;;BA)"
    assert calls.access == {
        str(folder): f"{full}(A;OICI;0x1200a9;;;{SERVICE})",
        str(folder / "agent"): f"{full}(A;OICI;0x1301bf;;;{SERVICE})",
    }


@pytest.mark.parametrize("owner", [SYSTEM_SID, ADMINISTRATORS, SERVICE, "S-1-5-21-1-2-3-500"])
def test_folders_of_administrators_are_taken_over(calls, folder, owner):
    """At an upgrade, or where files were put before the installation, only the access list changes."""
    (folder / "agent").mkdir(parents=True)
    (folder / "agent" / "spool.db").write_text("kept")
    calls.owners = dict.fromkeys(map(str, (folder, folder / "agent", folder / "agent" / "spool.db")), owner)
    Setup(calls, folder).secure_folders()
    assert set(calls.access.values()) == {access_list("0x1200a9"), access_list("0x1301bf")}
    assert (folder / "agent" / "spool.db").read_text() == "kept"


@pytest.mark.parametrize("planted", ["", "agent", "agent.toml", "agent/join.json"])
def test_what_somebody_planted_is_refused(calls, folder, planted):
    """The error names the path and its owner; nothing is written."""
    (folder / "agent").mkdir(parents=True)
    (folder / "agent.toml").touch()
    (folder / "agent" / "join.json").touch()
    calls.owners[str(folder / planted)] = SOMEBODY
    with pytest.raises(AgentError) as refused:
        Setup(calls, folder).secure_folders()
    assert str(folder / planted) in str(refused.value)
    assert SOMEBODY in str(refused.value)
    assert "then install again" in str(refused.value)


def test_links_are_refused(calls, folder, tmp_path):
    """A symbolic link or a second name of a file could lead anywhere, whoever owns it."""
    folder.mkdir()
    (tmp_path / "target").touch()
    (folder / "agent").symlink_to(tmp_path, target_is_directory=True)
    with pytest.raises(AgentError, match="agent is a link"):
        Setup(calls, folder).secure_folders()
    (folder / "agent").unlink()
    (folder / "meters.toml").hardlink_to(tmp_path / "target")
    with pytest.raises(AgentError, match=r"meters\.toml is a link"):
        Setup(calls, folder).secure_folders()


def test_properties_become_a_configuration_once(calls, folder):
    """They are checked, written as TOML that means the same, and never again."""
    setup = Setup(calls, folder)
    setup.secure_folders()
    setup.write_configuration({"collector": "", "population": "", "entity": ""})
    assert not (folder / "agent.toml").exists()
    setup.write_configuration({"collector": "collector.example:8641", "population": "server", "entity": ""})
    settings = read_settings(folder / "agent.toml", environment={})
    assert settings.collector.address == "collector.example:8641"
    assert settings.measure.population == "server"
    before = (folder / "agent.toml").read_bytes()
    setup.write_configuration({"collector": "other.example:8641", "population": "", "entity": ""})
    assert (folder / "agent.toml").read_bytes() == before


def test_a_wrong_property_is_refused(calls, folder):
    """The installation fails with the reason, and leaves no configuration."""
    setup = Setup(calls, folder)
    setup.secure_folders()
    with pytest.raises(ConfigurationError, match=r"measure\.population"):
        setup.write_configuration({"collector": "", "population": "desktop", "entity": ""})
    assert not (folder / "agent.toml").exists()


def test_any_text_is_toml():
    """Quotes, backslashes and accents survive."""
    text = 'Collège "Évariste\\Galois"\n\x01'
    assert tomllib.loads(toml({"a.c": "x", "a.b": text})) == {"a": {"b": text, "c": "x"}}


def test_a_join_file_is_copied_unless_enrolled(calls, folder, tmp_path, collector):
    """An enrolled machine keeps its identity; a wrong file is refused."""
    join_file = collector.join_file(tmp_path / "from_the_share.json")
    setup = Setup(calls, folder)
    setup.secure_folders()
    setup.copy_join_file("")
    setup.copy_join_file(str(join_file))
    target = folder / "agent" / "join.json"
    assert target.read_bytes() == join_file.read_bytes()
    target.unlink()
    wrong = tmp_path / "wrong.json"
    wrong.write_text("{}")
    with pytest.raises(IdentityError, match="is not a join file"):
        setup.copy_join_file(str(wrong))
    (folder / "agent" / "id").mkdir()
    (folder / "agent" / "id" / "certificate.pem").touch()
    setup.copy_join_file(str(join_file))
    assert not target.exists()


def test_the_service_is_configured(calls, folder):
    """What an older Windows does not know is a warning."""
    setup = Setup(calls, folder)
    setup.configure_service()
    assert calls.options == {"veilleuse-agent": OPTIONS}
    assert not calls.events
    calls.unknown = ("service SID",)
    setup.configure_service()
    assert calls.events == [(2, "warning this Windows does not know: service SID")]


def test_nothing_is_left(calls, folder):
    """Configuration, state and profile go; a second removal finds nothing and says so."""
    setup = Setup(calls, folder)
    setup.secure_folders()
    (folder / "agent" / "spool.db").touch()
    setup.remove()
    assert not folder.exists()
    assert not calls.profiles
    setup.remove()
    assert calls.events == [(4, "info profile of the service not deleted: DeleteProfileW: error 2")]


def test_a_removal_waits_for_the_service(calls, folder):
    """A service that was asked to stop writes its last sign first, in files that it holds."""
    setup = Setup(calls, folder)
    setup.secure_folders()
    lock = ProcessLock(folder / "agent", RUN_LOCK, what="the service")
    events: list[str] = []

    def end() -> None:
        events.append("last sign" if (folder / "agent").exists() else "too late")
        lock.release()

    threading.Timer(0.5, end).start()
    setup.remove()
    assert events == ["last sign"]
    assert not folder.exists()


def test_a_removal_follows_no_link(calls, folder, tmp_path):
    """A link in the place of the folder is not removed, nor what it leads to."""
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    folder.symlink_to(elsewhere, target_is_directory=True)
    with pytest.raises(AgentError, match="is a link"):
        Setup(calls, folder).remove()
    assert elsewhere.exists()


@pytest.fixture
def on_windows(monkeypatch: pytest.MonkeyPatch, calls: FakeSetup, folder: Path) -> None:
    """Let the command run over the fake Windows."""
    from veilleuse.agent.platforms.windows import setup_api

    monkeypatch.setattr(windows_setup, "SYSTEM", "windows")
    monkeypatch.setattr(windows_setup, "CONFIGURATION", folder / "agent.toml")
    monkeypatch.setattr(setup_api, "WindowsSetupCalls", lambda: calls)


def test_the_command(on_windows, calls, folder, capsys):
    """It prepares all; an error is an event too, because an installer shows no output."""
    assert command_line.main(["windows-setup", "--population", "classroom", "--collector", ""]) == 0
    assert "classroom" in (folder / "agent.toml").read_text()
    assert calls.options
    assert command_line.main(["windows-setup", "--join-file", "/nowhere/join.json"]) == 1
    assert "cannot read the join file" in capsys.readouterr().err
    ((kind, text),) = calls.events
    assert kind == 1
    assert text.startswith("error not installed: cannot read the join file /nowhere/join.json")
    assert command_line.main(["windows-setup", "--remove"]) == 0
    assert not folder.exists()


def test_the_command_refuses_other_systems(capsys):
    """Packages of other systems have no use for it."""
    if SYSTEM == "windows":
        pytest.skip("this is Windows")
    assert command_line.main(["windows-setup"]) == 1
    assert "is for Windows" in capsys.readouterr().err
