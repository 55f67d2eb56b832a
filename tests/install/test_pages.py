# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The pages for installers, typed exactly, block by block, on machines that have the names of the pages."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, Final

import pytest

from tests.architecture.tree import ROOT
from tests.install.apt import Repository
from tests.install.machines import DEBIAN_13, Machine, require_root, two_machines
from tests.install.packages import packages
from tests.install.steps import step
from tests.install.story import COLLECTOR, DEPOT, settle, wait_for
from tests.install.typed import TypedBlock, blocks_of, typed_blocks
from tests.support.peers import peer
from tests.support.processes import ran
from veilleuse.collector.backup.archive import open_archive
from veilleuse.collector.backup.encryption import read_key_file

ENGLISH: Final = ROOT / "docs/install-debian.md"
FRENCH: Final = ROOT / "docs/fr/installer.md"
OPERATIONS: Final = ROOT / "docs/operations.md"
PROGRAMS: Final = ("cron", "curl", "nginx-light", "openssh-server", "openssl", "rsync")
"""Debian's, which the machines have already: they reach none of its servers."""
PAGES: Final = "veilleuse.example.org"
OF_COLLECTOR: Final = ("collector.example.org", PAGES)
OF_OTHER: Final = (
    "packages.example.org",
    "backup.example.org",
    "machine.example.org",
    "new.example.org",
    "desk",
)
"""All other machines of the pages are one here."""
BUILDING: Final = ("make packages", "gpg --quick-generate-key")
"""Beginnings of the blocks that test_packages.py types: they build and publish."""
STICK: Final = "/media/stick"
BACKUPS: Final = "/var/backups/veilleuse"
TOKEN: Final = "/etc/veilleuse/metrics.token"
DROP_IN: Final = "/etc/systemd/system/veilleuse-collector.service.d/register.conf"
_PACKAGES_SITE: Final = """\
server {
    listen 443 ssl;
    server_name packages.example.org;
    ssl_certificate /etc/ssl/veilleuse.pem;
    ssl_certificate_key /etc/ssl/private/veilleuse.key;
    location /veilleuse/ { alias /srv/apt/; }
}
"""


def test_the_pages_have_the_same_commands() -> None:
    """Whoever reads French types the same; no block is without a place, so that none is left untyped."""
    english = typed_blocks(ENGLISH)
    assert typed_blocks(FRENCH) == english
    places = {place for block in (*english, *typed_blocks(OPERATIONS)) for place in block.places}
    assert places == {
        *(f"root@{name}" for name in (OF_COLLECTOR[0], *OF_OTHER[1:-1])),
        "admin@desk",
    }
    untyped = [text for text in blocks_of(ENGLISH) if not text.startswith(("# root@", "# admin@", *BUILDING))]
    assert not untyped


class Installation:
    """The machines of the pages, with what the pages say must be there."""

    def __init__(self, collector: Machine, other: Machine) -> None:
        self.collector, self.other = collector, other

    def prepare(self, folder: Path) -> None:
        """Give both the house's certificate, the collector a second disk, the desk a stick and an ssh key."""
        key, certificate = folder / "site.key", folder / "site.pem"
        names = f"subjectAltName=DNS:{PAGES},DNS:packages.example.org"
        kind = ("-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2")
        files = ("-keyout", key, "-out", certificate)
        made = ran([peer("openssl"), "req", *kind, "-subj", "/CN=house", "-addext", names, *files])
        assert made.returncode == 0, made.stderr
        for machine in (self.collector, self.other):
            shutil.copy(certificate, machine.path("/usr/local/share/ca-certificates/house.crt"))
            machine.run("update-ca-certificates")
            shutil.copy(certificate, machine.path("/etc/ssl/veilleuse.pem"))
            shutil.copy(key, machine.path("/etc/ssl/private/veilleuse.key"))
            sources = machine.path("/etc/apt/sources.list.d")
            for file in (machine.path("/etc/apt/sources.list"), *sources.iterdir()):
                file.unlink(missing_ok=True)
        self.collector.run("mkdir", "/srv/veilleuse")
        self.collector.run("mount", "-t", "tmpfs", "disk", "/srv/veilleuse")
        self.other.run("mkdir", "--parents", STICK)
        self._let_in()

    def _let_in(self) -> None:
        self.other.run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", "/root/.ssh/id_ed25519")
        public = self.other.path("/root/.ssh/id_ed25519.pub").read_text()
        for machine in (self.collector, self.other):
            machine.run(
                "install", "-D", "-m", "0600", "/dev/stdin", "/root/.ssh/authorized_keys", stdin=public
            )
        known = self.other.out("ssh-keyscan", "-t", "ed25519", OF_COLLECTOR[0], *OF_OTHER[1:4])
        self.other.path("/root/.ssh/known_hosts").write_text(f"{known}\n")

    def publish(self, folder: Path, built: Path) -> None:
        """Publish the packages on packages.example.org, and carry their public key."""
        with Repository(folder / "apt") as repository:
            repository.publish(built)
        shutil.copytree(repository.folder, self.other.path(f"{DEPOT}/apt"))
        self.other.path("/etc/nginx/sites-enabled/packages").write_text(_PACKAGES_SITE)
        self.other.run("systemctl", "reload", "nginx")
        for machine in (self.collector, self.other):
            shutil.copy(repository.folder / "veilleuse.asc", machine.path("/root"))

    def type(self, block: TypedBlock) -> None:
        """Type a block in each of its places; carry the join file that it made."""
        for place in block.places:
            host = place.partition("@")[2]
            with step(DEBIAN_13.name, f"type {len(block.commands)} commands, {place}"):
                block.type_on(self.collector if host in OF_COLLECTOR else self.other)
        join = self.collector.path("/root/join")
        if join.exists():
            shutil.move(join, self.other.path("/root/join"))

    def veilleuse(self, *arguments: str) -> tuple[int, str]:
        """Run `veilleuse` as root on the collector; return its exit code and what it wrote."""
        done = self.collector.run("veilleuse", *arguments, check=False)
        return done.returncode, done.stdout + done.stderr

    def curl(self, path: str, *options: str) -> tuple[int, str]:
        """Ask for a page from the desk, with a cookie jar; return the status and the body."""
        jar = ("--cookie", "/root/jar", "--cookie-jar", "/root/jar")
        told = self.other.out(
            "curl", "--silent", "--show-error", *jar, "--write-out", r"\n%{http_code}", *options,
            f"https://{PAGES}{path}",
        )  # fmt: skip
        body, _, status = told.rpartition("\n")
        return int(status), body


@pytest.mark.long
@pytest.mark.promise("install")
def test_typed_exactly_they_install(tmp_path: Path, figure: Callable[[str], None]) -> None:
    """An agent is heard, the root's key is away, a copy elsewhere restores, the officer signs in by TLS."""
    require_root()
    names = {"collector": " ".join(OF_COLLECTOR), "agent": " ".join(OF_OTHER)}
    with step(DEBIAN_13.name, "build packages"):
        built = packages(DEBIAN_13)
    with two_machines(DEBIAN_13, *PROGRAMS, names=names) as machines:
        installed = Installation(*machines)
        installed.prepare(tmp_path)
        installed.publish(tmp_path, built)
        blocks = typed_blocks(ENGLISH)
        for block in blocks:
            installed.type(block)
        heard(installed)
        key_is_away(installed, tmp_path)
        signs_in(installed)
        register_on_another_disk(installed)
        (restore,) = typed_blocks(OPERATIONS)
        copies_restore(installed, restore)
        typed = sum(len(block.commands) * len(block.places) for block in (*blocks, restore))
        figure(f"0 of {typed} commands of the install pages failed as typed")


def heard(installed: Installation) -> None:
    """The machine is enrolled and active, and the collector has its measurements."""
    with step(DEBIAN_13.name, "enrolled and heard"):
        (host,) = hosts(installed.collector)
        assert (host["status"], host["population"], host["org_entity"]) == ("active", "workstation", "DSI")
        wait_for(
            lambda: re.match(r"20\d\d-", hosts(installed.collector)[0]["last_contact"] or ""),
            "the collector heard the machine",
            (installed.collector, COLLECTOR),
        )


def hosts(machine: Machine) -> list[dict[str, Any]]:
    """Return the machines that a collector knows."""
    return list(json.loads(machine.out("veilleuse", "hosts", "list", "--json")))


def key_is_away(installed: Installation, folder: Path) -> None:
    """No file of the collector's machine holds the root's key, and no backup, there or elsewhere."""
    with step(DEBIAN_13.name, "no root key on the host, nor in a backup") as taken:
        lines = installed.other.path(f"{STICK}/root.key").read_text().splitlines()
        secret = max(lines, key=len)
        search = ("grep", "--recursive", "--files-with-matches", "--fixed-strings", secret)
        found = installed.collector.run(*search, "/etc", "/root", "/srv", "/var", "/tmp", check=False)
        assert found.returncode == 1, found.stdout + found.stderr
        key = read_key_file(installed.other.path(f"{STICK}/backup.key"))
        backups = [
            *installed.collector.path(BACKUPS).glob("*.backup"),
            *installed.other.path(f"/srv/copies{BACKUPS}").glob("*.backup"),
        ]
        for number, backup in enumerate(backups):
            content = folder / f"backup-{number}"
            content.mkdir()
            with open_archive(backup, lambda: key) as archive:
                archive.extract(content)
            files = [file for file in content.rglob("*") if file.is_file()]
            assert any(file.suffix == ".key" for file in files)
            assert not [file for file in files if secret.encode() in file.read_bytes()]
        assert len(backups) >= 2
        taken.result = f"{len(backups)} backups read"


def signs_in(installed: Installation) -> None:
    """From another machine the pages ask for a token over TLS; the officer's opens them, nobody else's."""
    with step(DEBIAN_13.name, "the officer signs in over TLS"):
        status, page = installed.curl("/")
        assert (status, "token" in page) == (401, True), page
        assert installed.curl("/metrics")[0] == 401
        token = installed.collector.path("/root/sobriety-officer.token").read_text().strip()
        of_browser = ("--header", f"Origin: https://{PAGES}", "--header", "Sec-Fetch-Site: same-origin")
        form = ("--data-urlencode", f"token={token}", *of_browser)
        assert installed.curl("/connexion", *form)[0] == 303
        (cookie,) = [
            line.split("\t")
            for line in installed.other.path("/root/jar").read_text().splitlines()
            if "veilleuse" in line.split("\t")[-2:-1]
        ]
        assert cookie[3] == "TRUE", "the cookie is Secure"
        status, page = installed.curl("/")
        assert (status, "sobriety-officer" in page) == (200, True), page


def register_on_another_disk(installed: Installation) -> None:
    """Without the drop-in it is told that no machine can enrol; with it all is well."""
    order = ("token", "create", "--entity=DSI", "--site=campus", "--population=server")
    drop_in = installed.collector.path(DROP_IN)
    for has_drop_in in (False, True):
        with step(
            DEBIAN_13.name, f"register on another disk, {'with' if has_drop_in else 'without'} drop-in"
        ):
            aside = drop_in.with_suffix(".aside")
            (aside if has_drop_in else drop_in).rename(drop_in if has_drop_in else aside)
            installed.collector.run("systemctl", "daemon-reload")
            installed.collector.run("systemctl", "restart", COLLECTOR)
            settle(installed.collector, COLLECTOR)
            value = f"veilleuse_register_writable {int(has_drop_in)}"
            wait_for(partial(is_told, installed.collector, value), value)
            code, said = installed.veilleuse(*order, f"--output=/root/join-{has_drop_in}")
            assert (code == 0) is has_drop_in, said
            code, said = installed.veilleuse("doctor")
            assert code == (0 if has_drop_in else 1), said
            line = "the register /srv/veilleuse/register.jsonl cannot be written: "
            assert (line in said) is not has_drop_in, said


def is_told(collector: Machine, line: str) -> bool:
    """Return whether /metrics answers with a line."""
    url = "http://127.0.0.1:8640/metrics"
    command = f'curl -sH "Authorization: Bearer $(cat {TOKEN})" {url}'
    return line in collector.run("sh", "-c", command, check=False).stdout


def copies_restore(installed: Installation, block: TypedBlock) -> None:
    """On a machine that has the copies and the stick alone, the collector is what it was.

    The backup is older than the enrolment: the register, which the next morning's copy holds, knows it.
    """
    installed.other.run("/etc/cron.daily/veilleuse-copies")
    known = {host["agent_id"] for host in hosts(installed.collector)}
    files = sorted(installed.other.path(f"/srv/copies{BACKUPS}").iterdir())
    for file in files:
        assert file.read_bytes() == installed.collector.path(f"{BACKUPS}/{file.name}").read_bytes()
    installed.collector.run("systemctl", "stop", COLLECTOR)
    installed.type(block)
    with step(DEBIAN_13.name, "the copy elsewhere restores"):
        assert {host["agent_id"] for host in hosts(installed.other)} == known
        assert installed.other.property_of(COLLECTOR, "ActiveState") == "active"
