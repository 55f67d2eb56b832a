# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run the commands of docs/monitoring.md with Centreon's real plug-in against a real `veilleuse serve`."""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import pytest

from tests.support.fakes.authority import TestAuthority
from tests.support.peers import peer
from tests.support.ports import free_port
from tests.support.processes import ran
from tests.support.proxies import HaProxy
from tests.support.stack import Stack
from tests.support.waiting import comes
from veilleuse.collector.exposition import catalogue as c
from veilleuse.collector.exposition.conditions import TABLE, Measure

DOCS: Final = Path(__file__).resolve().parents[2] / "docs"
GUIDE: Final = (DOCS / "monitoring.md").read_text()
SECTION: Final = GUIDE.partition("\n## Centreon\n")[2].partition("\n## ")[0]
WEB, CURL = re.findall(r"```sh\n(.+?)```", SECTION, re.DOTALL)
TOKEN = "0123456789abcdef0123456789abcdef"
OK, WARNING, CRITICAL, UNKNOWN = range(4)


def table(header: str) -> list[list[str]]:
    """Return the rows of the guide's table that has such a column, without the first column."""
    lines = SECTION.partition(f"| `{header}` |")[2].partition("\n\n")[0].splitlines()[2:]
    return [
        [cell.strip("`").replace("\\|", "|") for cell in line.strip("| ").split(" | ")[1:]] for line in lines
    ]


SERVICES: Final = table("FILTERINSTANCE")
MACHINES: Final = next(instance for instance, _, _ in SERVICES if "machine_waiting" in instance)
COUNTS: Final = table("INSTANCE`, `SUBINSTANCE")


@dataclass
class Guide:
    """A collector behind a reverse proxy with TLS; runs commands of the guide."""

    stack: Stack
    serving: subprocess.Popen[bytes]
    here: Mapping[str, str]
    """Text of the guide → what it is here."""

    def run(self, command: str, **others: str | None) -> tuple[int, str]:
        """Run a command of the guide with other values of its options; return (exit code, output)."""
        for written, here in self.here.items():
            command = command.replace(written, here)
        program, *options = shlex.split(command.replace("\\\n", ""))
        named = {name.replace("_", "-"): value for name, value in others.items()}
        kept = [option for option in options if option[2:].partition("=")[0] not in named]
        set_here = [f"--{name}={value}" for name, value in named.items() if value is not None]
        done = ran([program, *kept, *set_here], timeout=60)
        return done.returncode, done.stdout + done.stderr

    def service(self, instance: str, **options: str) -> tuple[int, str]:
        """Run the check of one service of the guide's first table."""
        return self.run(WEB, filter_instance=instance, filter_subinstance=".", **options)


@pytest.fixture(scope="module")
def guide(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guide]:
    """Start a collector without machines, with a token, and HAProxy with TLS before it."""
    peer("/usr/lib/nagios/plugins/centreon_plugins.pl")
    peer("curl")
    folder = tmp_path_factory.mktemp("centreon")
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    authority = TestAuthority()
    (folder / "ca.pem").write_bytes(authority.root.pem)
    certificate = authority.server.pem + authority.intermediate.pem + authority.server.key_pem
    (folder / "server.pem").write_bytes(certificate)
    curl = f'header = "Authorization: Bearer {TOKEN}"\ncacert = "{folder}/ca.pem"\n'
    (folder / "veilleuse.curl").write_text(curl)
    with Stack(folder, {"VEILLEUSE__HTTP__METRICS_TOKEN_FILE": str(folder / "token")}) as stack:
        stack.must("veilleuse", "init", "--simulated")
        serving = stack.start_collector()
        web = stack.environment["VEILLEUSE__HTTP__ADDRESS"]
        configuration = (
            "defaults\n mode http\n timeout connect 5s\n timeout client 60s\n timeout server 60s\n"
            f"frontend pages\n bind :443 ssl crt {folder}/server.pem\n default_backend veilleuse\n"
            f"backend veilleuse\n http-request set-header Host {web}\n server veilleuse {web}\n"
        )
        with HaProxy(configuration) as entrance:
            here = {
                "veilleuse.example.org": "127.0.0.1",
                "$TOKEN": TOKEN,
                "--port=443": f"--port={entrance.port}",
                ":443/": f":{entrance.port}/",
                "/etc/ssl/ville-ca.pem": f"{folder}/ca.pem",
                "/etc/centreon-engine/": f"{folder}/",
            }
            yield Guide(stack, serving, here)


def test_the_french_guide_has_the_same_command():
    """The command of the French guide is the one that is run here."""
    assert f"```sh\n{WEB}```" in (DOCS / "fr/superviser.md").read_text()


def test_the_services_watch_each_condition_once():
    """Each condition with a level is in one service of the guide; a new condition needs a place there."""
    patterns = [instance for instance, _, _ in SERVICES]
    leveled = [
        one.name
        for one in TABLE
        if one.metric.name != "up" and (one.measure is not Measure.GROWTH or one.counts_from_start)
    ]
    assert {name: sum(bool(re.search(one, name)) for one in patterns) for name in leveled} == dict.fromkeys(
        leveled, 1
    )


@pytest.mark.parametrize("command", [WEB, CURL])
def test_both_commands_of_the_guide_are_ok(guide, command):
    """Over TLS of an organisation's own authority, with the token, a sound collector is OK."""
    code, said = guide.run(command)
    assert (code, said[:3]) == (OK, "OK:"), said
    assert f"'collector_down~operations#{c.CONDITION_LEVEL.name}'=0" in said


@pytest.mark.parametrize(("instance", "warning", "critical"), SERVICES)
def test_each_service_of_the_guide_finds_metrics(guide, instance, warning, critical):
    """Each service is OK on a sound collector; only the provisional factor of the year is told. Machines
    have no level before the first one."""
    code, said = guide.service(instance, warning=warning, critical=critical)
    if instance == MACHINES:
        assert (code, said) == (UNKNOWN, "UNKNOWN: No metrics found. \n")
    else:
        assert code == (WARNING if "factor_provisional" in instance else OK), said


@pytest.mark.parametrize(("metric", "instance", "warning"), COUNTS)
def test_counts_stand_in_for_growths(guide, metric, instance, warning):
    """The guide's checks of counters are OK while nothing is refused, and name each reason."""
    code, said = guide.run(
        WEB,
        filter_metrics=metric,
        instance=instance,
        subinstance=instance,
        filter_subinstance=".",
        warning=warning,
    )
    assert code == OK, said
    assert f"#{metric.strip('^$')}'=0" in said


def test_a_machine_that_waits_is_a_warning(guide):
    """A machine that waits for approval gives WARNING, in its service and over all, until it is revoked."""
    stack, join = guide.stack, str(guide.stack.folder / "join")
    where = ("--entity", "test", "--site", "test", "--population", "server", "--approve")
    stack.must("veilleuse", "token", "create", *where, "--output", join)
    stack.run("veilleuse-agent", "enrol", join)
    assert comes(lambda: guide.run(WEB)[0] == WARNING)
    code, said = guide.service(MACHINES)
    assert (code, said[:8]) == (WARNING, "WARNING:"), said
    name = stack.must("veilleuse", "hosts", "list", "--status", "pending").splitlines()[1].split()[0]
    stack.must("veilleuse", "hosts", "revoke", name, "--yes")
    assert comes(lambda: guide.run(WEB)[0] == OK)


def test_reception_that_hangs_is_critical(guide):
    """While the receiving process is stopped, the pages still answer: CRITICAL, then OK again."""
    guide.serving.send_signal(signal.SIGSTOP)
    try:
        assert comes(lambda: guide.run(WEB)[0] == CRITICAL)
        code, said = guide.run(CURL)
        assert code == CRITICAL
        assert f"'collector_down~operations#{c.CONDITION_LEVEL.name}'=3" in said
    finally:
        guide.serving.send_signal(signal.SIGCONT)
    assert comes(lambda: guide.run(WEB)[0] == OK)


@pytest.mark.parametrize(
    ("command", "options", "words"),
    [
        pytest.param(WEB, {"password": "wrong" * 5}, "401", id="token"),
        pytest.param(WEB, {"ssl_opt": None}, "certificate", id="authority"),
        pytest.param(WEB, {"port": str(free_port())}, "refused", id="port"),
        pytest.param(
            CURL,
            {"command_options": "--fail --silent --show-error http://127.0.0.1:9/"},
            "Connect",
            id="curl",
        ),
    ],
)
def test_what_cannot_be_read_is_unknown(guide, command, options, words):
    """A wrong token, an unknown authority and a closed port give UNKNOWN, never OK."""
    code, said = guide.run(command, **options)
    assert (code, said[:8]) == (UNKNOWN, "UNKNOWN:"), said
    assert words.lower() in said.lower()
