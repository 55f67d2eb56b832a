# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The Windows package under Wine, from its silent installation to its removal. Never run on Windows."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import tomllib
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.architecture.tree import ROOT
from tests.install.steps import step
from tests.install.wine import RUNNING, SERVICE, STOPPED, Wine, embeddable_python
from tests.promises.support.killed_agent import UNKNOWN, held
from tests.support.peers import peer
from tests.support.processes import ran
from tests.support.stack import Stack

pytestmark = [pytest.mark.long, pytest.mark.promise("install")]

WINE: Final = "Wine"
PREVIOUS: Final = "0.0.9"
"""Version of a package of the same code: the released 0.1.0 is no service of Windows."""
VERSION: Final = str(
    tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["version"]
)
FAILED: Final = 1627 & 0xFF
"""ERROR_FUNCTION_FAILED, of which a process under Linux keeps a byte. Windows itself gives 1603."""
SLOW_SECONDS: Final = 180.0
"""The first contact comes within two minutes."""
NOBODY: Final = 65_534


@dataclass
class Packages:
    """Both packages, and the product code of the second one."""

    previous: Path
    present: Path
    code: str


class Installed:
    """The agent under Wine, and its collector on loopback."""

    def __init__(self, wine: Wine, stack: Stack) -> None:
        self.wine = wine
        self.stack = stack
        self.program = wine.drive / "Program Files" / "Veilleuse"
        self.data = wine.drive / "ProgramData" / "Veilleuse"
        self.state = self.data / "agent"

    def agent_id(self) -> str:
        """Return the identity on the machine."""
        return (self.state / "id" / "agent_id").read_text().strip()

    def configuration(self) -> bytes:
        """Return agent.toml."""
        return (self.data / "agent.toml").read_bytes()

    def last_sign(self) -> str:
        """Return why the last sign of life was written."""
        with closing(sqlite3.connect(f"file:{self.state / 'spool.db'}?mode=ro", uri=True)) as spool:
            (text,) = spool.execute("SELECT value FROM control WHERE key = 'last_sign'").fetchone()
        return str(json.loads(text)["why"])

    def stored(self) -> int:
        """Return the number of records that the collector has."""
        return held(self.stack.data).records

    def balance(self) -> str:
        """Check that the records follow each other without a hole, each stored once, none refused."""
        found = held(self.stack.data)
        with closing(sqlite3.connect(f"file:{self.state / 'spool.db'}?mode=ro", uri=True)) as spool:
            (refused,) = spool.execute("SELECT count(*) FROM quarantine").fetchone()
        assert not any((found.duplicates, found.holes, found.gap_milliseconds, refused))
        assert found.epochs == 1
        # in the first one the agent did not exist yet; in the second one its records of 10 s began
        _, second, *whole = sorted(found.periods)
        ends = [start + sum(found.periods[start].values()) for start in whole]
        assert ends[:-1] == whole[1:]
        unknown = sum(found.periods[start][UNKNOWN] for start in (second, *whole))
        return f"{found.records} records, 0 lost, duplicated or refused; {unknown / 1000:.0f} s stopped"

    def must_run(self) -> None:
        """Wait for the service."""
        self.wine.until(lambda: self.wine.state() == RUNNING, "the service does not run")

    def must_deliver(self, more_than: int) -> None:
        """Wait for records."""
        self.wine.until(lambda: self.stored() > more_than, "no record arrives", SLOW_SECONDS)


@pytest.fixture(scope="module")
def packages(tmp_path_factory: pytest.TempPathFactory) -> Packages:
    """Build both packages, the second one signed; the same sources give the same bytes."""
    for program in ("wine", "wixl", "msibuild", "osslsigncode", "faketime"):
        peer(program)
    folder = tmp_path_factory.mktemp("packages")
    with step(WINE, "build, sign, verify"):
        archive = embeddable_python(folder)
        previous, _ = build(archive, folder / "previous.msi", f"VERSION={PREVIOUS}")
        present, code = build(archive, folder / "present.msi", f"SIGN={self_made_key(folder)}")
        verify = ("-CAfile", folder / "certificate.pem", "-in", present)
        assert ran([peer("osslsigncode"), "verify", *verify]).returncode == 0
    with step(WINE, "build again: same bytes"):
        again, _ = build(archive, folder / "again.msi", f"VERSION={PREVIOUS}")
        assert again.read_bytes() == previous.read_bytes()
    return Packages(previous, present, code)


def build(archive: Path, package: Path, *variables: str) -> tuple[Path, str]:
    """Return a package and its product code, as `make msi` gives them."""
    make = ["make", "-C", str(ROOT), "--no-print-directory", "msi", f"PYTHON_EMBED_ZIP={archive}"]
    made = ran([*make, *variables])
    assert made.returncode == 0, made.stdout + made.stderr
    file, code = made.stdout.splitlines()[-2:]
    code = code.split()[1]
    properties = ran([peer("msiinfo"), "export", file, "Property"], check=True).stdout.splitlines()
    assert f"ProductCode\t{code}" in properties, "as docs/install-windows.md reads it"
    return Path(shutil.move(file, package)), code


def self_made_key(folder: Path) -> str:
    """Make a certificate for code; return what `make msi` signs with."""
    key, certificate, bundle = (folder / name for name in ("key.pem", "certificate.pem", "key.p12"))
    request = ["-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2"]
    request += ["-subj", "/CN=test", "-addext", "extendedKeyUsage=codeSigning"]
    ran([peer("openssl"), "req", *request, "-keyout", key, "-out", certificate], check=True)
    export = ("-export", "-inkey", key, "-in", certificate, "-passout", "pass:test", "-out", bundle)
    ran([peer("openssl"), "pkcs12", *export], check=True)
    return f"-pkcs12 {bundle} -pass test"


def test_the_life_of_an_installation(tmp_path, packages):
    """One identity from the installation to the removal, no setting lost, nothing left."""
    with Stack(tmp_path) as stack, Wine(tmp_path) as wine:
        installed = Installed(wine, stack)
        stack.start_collector()
        install(installed, packages)
        deliver(installed)
        upgrade(installed, packages)
        repair(installed, packages)
        remove(installed, packages)
        refuse_what_was_planted(installed, packages)


def install(installed: Installed, packages: Packages) -> None:
    """Install silently with all properties."""
    wine, stack = installed.wine, installed.stack
    where = ("--entity", "ville", "--site", "test", "--population", "server")
    stack.must("veilleuse", "token", "create", *where, "--output", str(wine.drive / "join.json"))
    collector = stack.environment["VEILLEUSE__GRPC__ADDRESS"]
    properties = (f"COLLECTOR={collector}", r"JOINFILE=C:\join.json", "POPULATION=server", "ENTITY=ville")
    with step(WINE, "silent installation"):
        wine.install("/i", packages.previous, *properties)
        installed.must_run()
        written = tomllib.loads(installed.configuration().decode())
        assert written["collector"] == {"address": collector, "entity": "ville"}
        assert written["measure"] == {"population": "server"}


def deliver(installed: Installed) -> None:
    """Measure, enrol by the join file, deliver, stop in order."""
    wine, state = installed.wine, installed.state
    with step(WINE, "start with records of 10 s"):
        wine.run("net", "stop", SERVICE, code=0)
        with (installed.data / "agent.toml").open("a", encoding="utf-8") as file:
            file.write("period_seconds = 10\n")  # the last section is [measure]
        wine.run("net", "start", SERVICE, code=0)
        installed.must_run()
        wine.until(lambda: any("info measuring" in event for event in wine.events()), "no event")
    with step(WINE, "enrolled by itself"):
        wine.until((state / "id" / "certificate.pem").exists, "it does not enrol", SLOW_SECONDS)
        wine.until(lambda: not (state / "join.json").exists(), "the join file stays")
    with step(WINE, "records delivered") as taken:
        installed.must_deliver(more_than=1)
        (host,) = json.loads(installed.stack.must("veilleuse", "hosts", "list", "--json"))
        assert host["population"] == "server"
        assert host["agent_id"] == installed.agent_id()
        taken.result = f"{installed.stored()} records"
    with step(WINE, "stop"):
        wine.run("net", "stop", SERVICE, code=0)
        wine.until(lambda: wine.state() == STOPPED and not wine.processes(), "it does not end")
        assert installed.last_sign() == "stop"
        assert not [event for event in wine.events() if "does not end" in event]


def upgrade(installed: Installed, packages: Packages) -> None:
    """Install the next version over it; it goes on delivering under the same identity.

    Windows tells the old version that it is being upgraded. Wine does not: the test tells its copy.
    """
    (copy,) = (installed.wine.drive / "windows" / "Installer").glob("*.msi")
    told = f"INSERT INTO `Property` (`Property`, `Value`) VALUES ('UPGRADINGPRODUCTCODE', '{packages.code}')"
    ran([peer("msibuild"), copy, "-q", told], check=True)
    agent_id, configured, before = installed.agent_id(), installed.configuration(), installed.stored()
    with step(WINE, f"upgrade {PREVIOUS} to {VERSION}") as taken:
        installed.wine.install("/i", packages.present)
        installed.must_run()
        assert installed.agent_id() == agent_id
        assert installed.configuration() == configured
        assert {f'"DisplayVersion"="{VERSION}"'} == set(installed.wine.registry('"displayversion"="'))
        installed.must_deliver(more_than=before)
        taken.result = f"same identity, {installed.stored() - before} more records"
    with step(WINE, "what was delivered") as taken:
        taken.result = installed.balance()


def repair(installed: Installed, packages: Packages) -> None:
    """A repair restores files and takes no properties, for a user may ask for it."""
    agent_id, configured = installed.agent_id(), installed.configuration()
    command, library = installed.program / "veilleuse-agent.cmd", installed.program / "lib/psutil/__init__.py"
    whole = library.read_bytes()
    with step(WINE, "repair"):
        command.unlink()
        library.write_bytes(b"")
        # what `msiexec /fa` is short for; Wine has only the long form
        repairing = ("REINSTALL=ALL", "REINSTALLMODE=amus", "COLLECTOR=elsewhere.example:1")
        installed.wine.install("/i", packages.code, *repairing)
        installed.must_run()
        assert library.read_bytes() == whole
        assert installed.configuration() == configured
        assert installed.agent_id() == agent_id
    with step(WINE, "doctor by its command"):
        said = installed.wine.run("cmd", "/c", r"C:\Program Files\Veilleuse\veilleuse-agent.cmd", "doctor")
        assert agent_id[:8] in said, said


def remove(installed: Installed, packages: Packages) -> None:
    """Remove it; nothing is left."""
    wine = installed.wine
    with step(WINE, "removal: nothing is left"):
        wine.install("/x", packages.code)
        wine.until(lambda: not wine.processes(), "processes stay")
        assert wine.state() is None
        left = [str(path.relative_to(installed.program)) for path in installed.program.rglob("*.*")]
        assert not installed.program.exists(), " ".join(left)
        assert not installed.data.exists()
        assert not wine.registry("veilleuse")


def refuse_what_was_planted(installed: Installed, packages: Packages) -> None:
    """A file that somebody else put into %ProgramData% makes the installation fail as a whole."""
    with step(WINE, "planted configuration is refused"):
        installed.data.mkdir()
        (installed.data / "agent.toml").write_text('[collector]\naddress = "elsewhere.example:1"\n')
        os.chown(installed.data / "agent.toml", NOBODY, NOBODY)
        (event,) = installed.wine.install("/i", packages.present, code=FAILED)
        assert event.startswith("err error not installed")
        assert "agent.toml belongs to" in event
        assert installed.wine.state() is None
        assert not installed.program.exists()
