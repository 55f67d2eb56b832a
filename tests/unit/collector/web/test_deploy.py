# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the page Déployer: commands that a shell reads as meant, and the list of what is not done yet."""

from __future__ import annotations

import html
import re
import subprocess
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.architecture.tree import ROOT
from tests.support import clock
from tests.support.filled import METER, Filled, minutes_of_server
from tests.support.reading import Reading
from veilleuse.collector.backup.notes import BACKUP_NOTE, RESTORED_BACKUP_NOTE
from veilleuse.collector.cli.doctor.storage import check_backup
from veilleuse.collector.cli.main import run
from veilleuse.collector.enrolment.tokens import TokenOrder, checked_name
from veilleuse.collector.errors import UsageError
from veilleuse.collector.exposition.conditions import BY_NAME, Severity
from veilleuse.collector.model.inventory import InventoryChange
from veilleuse.collector.web.pages.deploy.commands import SYSTEMS, machine_steps, token_command
from veilleuse.wire.vocabulary import Population

NOW = datetime(2026, 11, 10, 12, tzinfo=UTC)
LATE = timedelta(seconds=BY_NAME["backup_old"].bounds[Severity.WARNING])
NASTY = (
    "L'Eau",
    'a"b',
    "$(touch /tmp/x)",
    "`id`",
    "a;b|c&d",
    "-x",
    "a\\",
    "!!",
    "L > Collèges > C’1",
    "--",
    "~",
    "*",
)


def is_a_name(text: str) -> bool:
    """Tell whether the collector accepts it as the name of an entity or a site."""
    try:
        return checked_name("site", text) == text
    except UsageError:
        return False


NAMES = st.one_of(st.sampled_from(NASTY), st.text(min_size=1, max_size=40).filter(is_a_name))


def words_of(command: str, shell: str) -> list[str]:
    """Return the words that a shell makes of a command: `veilleuse` is a function that prints them."""
    script = f"veilleuse() {{ printf '%s\\0' \"$@\"; }}\n{command}\n"
    done = subprocess.run([shell, "-c", script], capture_output=True, check=True, cwd="/")
    assert done.stderr == b""
    return done.stdout.decode().split("\0")[:-1]


@settings(max_examples=60, deadline=None)
@given(entity=NAMES, site=NAMES, uses=st.integers(1, 100_000))
@pytest.mark.parametrize("shell", ["bash", "sh"])
def test_a_shell_reads_what_was_typed(entity: str, site: str, uses: int, shell: str):
    """No name of an entity or a site is read as anything but one word of the command."""
    order = TokenOrder(entity, site, Population.CLASSROOM, uses, 72)
    assert words_of(token_command(order), shell) == [
        "token",
        "create",
        f"--entity={entity}",
        f"--site={site}",
        "--population=classroom",
        f"--uses={uses}",
        "--hours=72",
        "--output=join.json",
    ]


def test_the_command_has_these_options(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch):
    """Each option is one of `veilleuse token create`."""
    for name, value in {"NO_COLOR": "1", "COLUMNS": "200", "TERM": "dumb"}.items():
        monkeypatch.setenv(name, value)
    run(["token", "create", "--help"])
    said = capsys.readouterr().out
    for option in re.findall(r"(--[a-z]+)=", token_command(TokenOrder("E", "S", Population.SERVER))):
        assert option in said


DOCUMENTED = {
    "debian": ("install-debian.md", ("population select workstation", "apt install -y veilleuse-rapl")),
    "windows": ("install-windows.md", ("POPULATION=workstation", "/qn /norestart JOINFILE=")),
    "macos": ("commands.md", ("`veilleuse-agent enrol JOINFILE`", "`veilleuse-agent doctor`")),
}
"""System → its page, and what the page and the commands must have in common."""
OURS = ("scp ", "debconf-set-selections ", "END", "apt-get install -y veilleuse-rapl", "sudo ")
"""Beginnings of lines that the pages have in other words."""


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_steps_are_those_of_the_documentation(system: str):
    """Each command stands in the page of its system, for one population or another."""
    page, common = DOCUMENTED[system]
    text = (ROOT / "docs" / page).read_text("utf-8")
    assert all(one in text for one in common)
    for step in machine_steps(system, Population.WORKSTATION, "0.2.0"):
        for line in step.command.splitlines():
            if not line.startswith(OURS):
                assert line in text


def test_the_questions_are_the_packages_own():
    """Each answer is to a question of the Debian package."""
    commands = " ".join(one.command for one in machine_steps("debian", Population.CLASSROOM, "0.2.0"))
    questions = set(re.findall(r"veilleuse-agent/[a-z-]+", commands))
    templates = next((ROOT / "deploy/debian").rglob("veilleuse-agent.templates")).read_text("utf-8")
    assert questions <= set(re.findall(r"^Template: (.+)$", templates, re.M))
    assert len(questions) == 2


@pytest.fixture
def reading(tmp_path: Path) -> Iterator[Reading]:
    """Give an application of a new data directory without a machine."""
    with Filled(tmp_path / "data", clock=NOW.timestamp) as data, Reading(data, clock=NOW.timestamp) as opened:
        yield opened


def page(reading: Reading, asked: str = "") -> str:
    """Return the page in English, as text."""
    answer = reading.get(f"/deployer?lang=en&{asked}")
    assert answer.status_code == 200, answer.text
    return answer.text


def done(reading: Reading) -> dict[str, bool]:
    """Return item → done, as the page shows them."""
    text = html.unescape(page(reading))
    found = re.findall(r'<li class="(done|open)">.*?<strong>([^<]+)</strong>', text, re.S)
    return {name: state == "done" for state, name in found}


def test_the_first_steps_are_those_of_the_installers_page(reading: Reading):
    """Same order and same lines: the root's key goes before the first backup, which would hold it."""
    guide = (ROOT / "docs" / "fr" / "installer.md").read_text("utf-8")
    ordered = ("collector.toml", "--new-key", "root.key", "veilleuse-backup.timer", "calendar import")
    places = [guide.index(one) for one in (*ordered, "inventory import", "token create")]
    assert places == sorted(places)
    text = html.unescape(page(reading))
    shown = ("advertised_address", "--new-key", "root key", "veilleuse-backup.timer", "calendar import")
    places = [text.index(one) for one in (*shown, "inventory import", 'id="form-h"')]
    assert places == sorted(places), "before the first machine, the form comes last"
    addresses, seal, *_ = re.findall(r"<pre><code>(.*?)</code>", text, re.S)
    for line in (*addresses.splitlines(), *seal.splitlines()):
        assert line in guide


@pytest.mark.parametrize("name", NASTY)
def test_names_are_written_as_text(reading: Reading, name: str):
    """What was typed stands in the page as text: in the form, and quoted in the command."""
    text = page(reading, f"entity={quote(name)}&site=lyon")
    command = re.search(r"<pre><code>(veilleuse token create.*?)</code></pre>", text, re.S)
    assert command is not None
    assert words_of(html.unescape(command[1]), "sh")[2] == f"--entity={name}"
    assert (
        f'value="{html.escape(name, quote=True).replace("&#x27;", "&#39;").replace("&quot;", "&#34;")}"'
        in text
    )
    assert "is a new entity" in text


def test_a_form_without_a_name_or_with_a_wrong_one_has_no_command(reading: Reading):
    """The page says what is missing, and writes no command."""
    assert "veilleuse token create" not in page(reading)
    assert "The entity or the site is missing" in page(reading, "entity=A")
    wrong = page(reading, "entity=%20A&site=lyon")
    assert "1 to 128 visible characters" in wrong
    assert "veilleuse token create" not in wrong
    assert reading.get("/deployer?entity=A&site=B&hours=721").status_code == 400


def test_nothing_is_made(reading: Reading):
    """No token and no site comes of looking."""
    page(reading, "entity=A&site=nowhere&population=server&system=windows&uses=3")
    assert reading.data.store.registry.tokens() == ()
    assert "nowhere" not in {site.site for site in reading.data.store.registry.sites()}


def test_a_new_collector_has_all_before_it(reading: Reading):
    """Nothing is ticked that was not done; a moved root key is."""
    assert {name for name, is_done in done(reading).items() if is_done} == {"The root key is off-line"}


def test_what_was_done_is_ticked(reading: Reading):
    """A root key here, an import, a scrape and a call are seen."""
    data = reading.data
    (data.directory / "ca").mkdir()
    (data.directory / "ca" / "root.key").write_text("")
    data.store.inventory.apply(InventoryChange(1, date(2026, 11, 1), (), ()))
    data.push(data.add_host(), minutes_of_server(20, 15, 180.0, at=NOW), METER)
    reading.get("/metrics", x_prometheus_scrape_timeout_seconds="10")
    assert {name for name, is_done in done(reading).items() if is_done} == {
        "The inventory is imported",
        "Prometheus scrapes the metrics",
        "A first machine has called",
    }


def test_a_person_is_no_prometheus(reading: Reading):
    """Somebody who looks at /metrics ticks nothing."""
    reading.get("/metrics")
    assert not done(reading)["Prometheus scrapes the metrics"]


@pytest.mark.parametrize("note", [BACKUP_NOTE, RESTORED_BACKUP_NOTE])
@pytest.mark.parametrize(
    "age", [timedelta(hours=1), LATE - timedelta(minutes=1), LATE + timedelta(minutes=1)]
)
def test_a_backup_is_late_when_doctor_says_so(tmp_path: Path, note: str, age: timedelta):
    """The page and `veilleuse doctor` have one condition."""
    now = clock.now()
    with Filled(tmp_path / "data") as data, Reading(data) as reading:
        with data.store.transaction():
            data.store.registry.put_meta(note, str(round((now - age).timestamp() * 1000)))
        finding = next(check_backup(reading.settings))
        assert done(reading)["A backup of less than a week"] is (finding.outcome == "good") is (age < LATE)
