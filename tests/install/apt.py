# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""A signed apt repository on loopback, and a Debian in a folder that installs from it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Final, Self

from tests.architecture.tree import ROOT
from tests.install.machines import ALONE
from tests.support.peers import peer
from tests.support.processes import ran

SUITE: Final = "deb13"
_INDEX: Final = f"dists/{SUITE}/main/binary-amd64/Packages"
_ENVIRONMENT: Final = {"LC_ALL": "C.UTF-8", "DEBIAN_FRONTEND": "noninteractive"}


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *args: object) -> None:
        pass


class Repository:
    """What `make apt-repository` makes, on a web server, with a key for this test."""

    def __init__(self, folder: Path) -> None:
        """`folder`: where it is; the keys are beside it."""
        self.folder = folder
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._ours, self._theirs = folder.with_suffix(".ours"), folder.with_suffix(".theirs")

    def __enter__(self) -> Self:
        for home in (self._ours, self._theirs):
            home.mkdir(mode=0o700, parents=True)
            key = (
                "--batch",
                "--passphrase",
                "",
                "--quick-generate-key",
                "apt@test",
                "ed25519",
                "sign",
                "never",
            )
            _must(peer("gpg"), *key, GNUPGHOME=home)
        Thread(target=self._server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        for home in (self._ours, self._theirs):
            _must("gpgconf", "--homedir", home, "--kill", "all")

    def publish(self, packages: Path) -> None:
        """Add the packages of a folder, signed."""
        self._publish(packages, self._ours)

    def newest(self, package: str) -> str:
        """Return the highest version of a package that was published last."""
        files = sorted(
            (self.folder / "pool" / SUITE).glob(f"{package}_*.deb"), key=lambda file: file.stat().st_mtime
        )
        return _must("dpkg-deb", "--field", files[-1], "Version").strip()

    def tamperings(self, package: str, version: str) -> Iterator[str]:
        """Tamper in each way in turn, with a higher version of a package; yields what was done.

        At the end that version is there, genuine.
        """
        genuine, work = self.folder.with_suffix(".genuine"), self.folder.with_suffix(".work")
        shutil.copytree(self.folder, genuine)
        (work / "out").mkdir(parents=True)
        (original,) = (self.folder / "pool" / SUITE).glob(f"{package}_{self.newest(package)}_*.deb")
        _must("dpkg-deb", "--raw-extract", original, work / "tree")
        control = work / "tree/DEBIAN/control"
        control.write_text(
            control.read_text().replace(f"Version: {self.newest(package)}", f"Version: {version}")
        )
        _must("dpkg-deb", "--build", work / "tree", work / "out" / f"{package}_{version}_all.deb")

        self._publish(work / "out", self._theirs)
        yield "index signed with another key"
        self._restore(genuine, keep=_INDEX)
        yield "list of packages changed, signed index genuine"
        self._restore(genuine)
        index = self.folder / "dists" / SUITE / "InRelease"
        index.write_text(index.read_text().replace("Origin: Veilleuse", "Origin: Veilleuze"))
        yield "signed index changed"
        index.unlink()
        (index.parent / "Release").write_text("Suite: deb13\nComponents: main\nArchitectures: amd64\n")
        yield "index without a signature"
        self._restore(genuine)
        self.publish(work / "out")
        file = self.folder / "pool" / SUITE / f"{package}_{version}_all.deb"
        content = file.read_bytes()
        file.write_bytes(content[:-20] + bytes([content[-20] ^ 1]) + content[-19:])
        yield "package changed"
        file.write_bytes(content)

    def _publish(self, packages: Path, home: Path) -> None:
        files = sorted(packages.glob("*.deb"))
        _must(ROOT / "deploy/debian/repository.sh", "apt@test", self.folder, *files, GNUPGHOME=home)

    def _restore(self, genuine: Path, keep: str = "") -> None:
        kept = {suffix: (self.folder / f"{keep}{suffix}").read_bytes() for suffix in ("", ".xz") if keep}
        shutil.rmtree(self.folder)
        shutil.copytree(genuine, self.folder)
        for suffix, content in kept.items():
            (self.folder / f"{keep}{suffix}").write_bytes(content)


class SystemFolder:
    """A Debian in a folder: commands run in it with our network, its services do not run."""

    def __init__(self, folder: Path) -> None:
        """`folder`: its root, ours alone."""
        self.folder = folder
        for sources in (self.path("/etc/apt/sources.list"), *self.path("/etc/apt/sources.list.d").iterdir()):
            sources.unlink(missing_ok=True)

    def path(self, inside: str) -> Path:
        """Return where a file of the system is for us."""
        return self.folder / inside.lstrip("/")

    def run(self, *command: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        """Run a command in the system to its end."""
        options = (
            "--quiet",
            "--pipe",
            "--register=no",
            "--keep-unit",
            "--as-pid2",
            f"--directory={self.folder}",
        )
        settings = (f"--setenv={name}={value}" for name, value in _ENVIRONMENT.items())
        return ran([*ALONE, peer("systemd-nspawn"), *options, *settings, *command], input=stdin, timeout=300)

    def must(self, *command: str, stdin: str = "") -> str:
        """Run a command that must succeed; returns its standard output."""
        done = self.run(*command, stdin=stdin)
        assert done.returncode == 0, f"{' '.join(command)}: {done.stdout}{done.stderr}"
        return done.stdout

    def answer(self, package: str, **answers: str) -> None:
        """Give debconf its answers beforehand, as an administrator's preseed does."""
        types = {"population": "select", "purge-data": "boolean"}
        lines = (
            f"{package} {package}/{name} {types.get(name, 'string')} {said}" for name, said in answers.items()
        )
        self.must("debconf-set-selections", stdin="\n".join(lines))

    def copy(self, packages: Path) -> list[str]:
        """Copy the packages of a folder into the system; returns their paths there."""
        files = sorted(packages.glob("*.deb"))
        for file in files:
            shutil.copy(file, self.path("/root"))
        return [f"/root/{file.name}" for file in files]

    def trust(self, repository: Repository) -> None:
        """Add the repository as docs/install-debian.md says, and read its index."""
        shutil.copy(repository.folder / "veilleuse.asc", self.path("/etc/apt/keyrings/veilleuse.asc"))
        lines = f"Types: deb\nURIs: {repository.url}\nSuites: {SUITE}\nComponents: main\n"
        source = self.path("/etc/apt/sources.list.d/veilleuse.sources")
        source.write_text(f"{lines}Signed-By: /etc/apt/keyrings/veilleuse.asc\n")
        self.must("apt-get", "update")

    def version(self, package: str) -> str:
        """Return the installed version of a package."""
        return self.must("dpkg-query", "--show", "--showformat=${Version}", package)

    def files(self) -> set[str]:
        """Return all files and folders of the system but dpkg's own lists and the copied packages."""
        found = self.must(
            "find", "/", "-xdev", "(", "-path", "/root", "-o", "-path", "/run", ")", "-prune", "-o", "-print"
        )
        return set(found.splitlines())


def _must(*command: str | Path, **environment: str | Path) -> str:
    variables = os.environ | {name: str(value) for name, value in environment.items()}
    done = ran(command, env=variables, timeout=300)
    assert done.returncode == 0, f"{' '.join(map(str, command))}: {done.stderr}"
    return done.stdout
