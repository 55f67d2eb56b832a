# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run Debian's Zabbix server with its front end and a PostgreSQL, on loopback, in a folder of their own."""

from __future__ import annotations

import gzip
import json
import os
import shutil
import subprocess
import tempfile
import urllib.request
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from tests.support.peers import peer
from tests.support.ports import free_ports
from tests.support.processes import ran
from tests.support.waiting import PATIENCE_SECONDS, until

SCHEMA = Path("/usr/share/zabbix-server-pgsql")
PAGES = Path("/usr/share/zabbix")
CONFIG_FILE = "/etc/zabbix/zabbix.conf.php"
"""File that Debian's front end reads."""
FAST = "-c fsync=off -c synchronous_commit=off -c full_page_writes=off"
SETTINGS = """\
LogFile={folder}/server.log
PidFile={folder}/server.pid
SocketDir={folder}
DBHost={folder}
DBName=zabbix
DBUser=zabbix
ListenIP=127.0.0.1
ListenPort={port}
CacheUpdateFrequency=1
"""
PHP = """\
<?php
$DB = ['TYPE' => 'POSTGRESQL', 'SERVER' => '{folder}', 'PORT' => '0', 'DATABASE' => 'zabbix', 'USER' => 'zabbix',
  'PASSWORD' => '', 'SCHEMA' => ''];
$ZBX_SERVER = '127.0.0.1';
$ZBX_SERVER_PORT = '{port}';
"""


class Zabbix:
    """A Zabbix server; a context manager that ends its processes and deletes its folder."""

    def __init__(self) -> None:
        # PostgreSQL refuses root; another user cannot pass through pytest's folders
        self.folder = Path(tempfile.mkdtemp(prefix="veilleuse-zabbix-", dir="/tmp"))
        self._user = (
            ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups"] if os.geteuid() == 0 else []
        )
        self._ports = free_ports(2)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._token = ""

    def __enter__(self) -> Self:
        try:
            self._start()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed(self._processes):
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE_SECONDS)
            process.kill()
        shutil.rmtree(self.folder)

    def __call__(self, method: str, **parameters: Any) -> Any:
        """Call the API; returns its result, and fails with its error."""
        body = json.dumps({"jsonrpc": "2.0", "method": method, "params": parameters, "id": 1})
        headers = {"Content-Type": "application/json"}
        if self._token:
            headers["Authorization"] = f"Bearer {self._token}"
        url = f"http://127.0.0.1:{self._ports[1]}/api_jsonrpc.php"
        with urllib.request.urlopen(
            urllib.request.Request(url, body.encode(), headers), timeout=PATIENCE_SECONDS
        ) as answer:
            found = json.load(answer)
        assert "error" not in found, found["error"]
        return found["result"]

    def _start(self) -> None:
        if os.geteuid() == 0:
            shutil.chown(self.folder, "nobody")
        self.folder.chmod(0o755)
        self._start_database()
        values = {"folder": str(self.folder), "port": str(self._ports[0])}
        self._write("server.conf", SETTINGS, values)
        self._write("zabbix.conf.php", PHP, values)
        self._run("server", peer("zabbix_server"), "-f", "-c", self.folder / "server.conf")
        pages = self.folder / "pages"
        shutil.copytree(PAGES, pages)
        constant = pages / "include/classes/core/CConfigFile.php"
        written = constant.read_text()
        assert CONFIG_FILE in written
        constant.write_text(written.replace(CONFIG_FILE, str(self.folder / "zabbix.conf.php")))
        self._run("php", peer("php"), "-S", f"127.0.0.1:{self._ports[1]}", "-t", pages)
        until(self._answers, "the API of Zabbix does not answer")
        self._token = self("user.login", username="Admin", password="zabbix")

    def _start_database(self) -> None:
        programs = max(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda path: int(path.parent.name))
        data = self.folder / "database"
        options = ["-A", "trust", "-U", "zabbix", "-E", "UTF8", "--locale=C.UTF-8"]
        done = ran([*self._user, programs / "initdb", "-D", data, *options])
        assert done.returncode == 0, done.stderr
        listen: list[str | Path] = ["-c", "listen_addresses=", "-k", self.folder, *FAST.split()]
        self._run("postgres", programs / "postgres", "-D", data, *listen)
        client: list[str | Path] = [
            peer("psql"),
            "-q",
            "-h",
            self.folder,
            "-U",
            "zabbix",
            "-v",
            "ON_ERROR_STOP=1",
        ]
        create = [*client, "-d", "postgres", "-c", "CREATE DATABASE zabbix"]
        until(lambda: ran(create).returncode == 0, "PostgreSQL does not start", every=0.2)
        for name in ("schema", "images", "data"):
            sql = gzip.decompress((SCHEMA / f"{name}.sql.gz").read_bytes()).decode()
            done = ran([*client, "-d", "zabbix"], input=sql)
            assert done.returncode == 0, done.stderr
        done = ran([*client, "-d", "zabbix", "-c", "ANALYZE"])  # else an import takes 5 s, and a link minutes
        assert done.returncode == 0, done.stderr

    def _run(self, name: str, *command: str | Path) -> None:
        with (self.folder / f"{name}.out").open("ab") as output:
            self._processes.append(
                subprocess.Popen([*self._user, *command], stdout=output, stderr=subprocess.STDOUT, cwd="/")
            )

    def _write(self, name: str, text: str, values: dict[str, str]) -> None:
        for field, value in values.items():
            text = text.replace(f"{{{field}}}", value)
        (self.folder / name).write_text(text)

    def _answers(self) -> bool:
        assert all(process.poll() is None for process in self._processes), self.logs()
        with suppress(OSError):
            return bool(self("apiinfo.version"))
        return False

    def logs(self) -> str:
        """Return the ends of all logs."""
        return "".join(f"--- {log.name}\n{log.read_text()[-2000:]}" for log in self.folder.glob("*.out"))
