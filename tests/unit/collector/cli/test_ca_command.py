# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""`veilleuse ca`: the machines that a step would lose, on a settable clock, and the commands' texts."""

from __future__ import annotations

import getpass
import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from ipaddress import ip_address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from tests.support import clock
from tests.support.authorities import Organisation
from tests.support.closed_years import lead_commands_to
from tests.support.machines import served, settings_in
from veilleuse.collector.admin import ca
from veilleuse.collector.admin.operations import Operations
from veilleuse.collector.app.data_directory import Collector, initialise, open_collector
from veilleuse.collector.cli.main import run
from veilleuse.collector.enrolment.authorise import CertificateAuthoriser
from veilleuse.collector.enrolment.ca import Authority
from veilleuse.collector.enrolment.enrol import Application, Enroller, EnrolResult
from veilleuse.collector.enrolment.issuing import Challenges, Renewal
from veilleuse.collector.enrolment.tokens import FailureLimiter
from veilleuse.collector.errors import AdminError
from veilleuse.collector.model.hosts import CertificateChain

HERE = ip_address("192.0.2.9")


class Bench:
    """Holds a collector without ports, on its own clock."""

    def __init__(self, collector: Collector) -> None:
        self.now = clock.now()
        self.authority = Authority(collector.settings.data_dir, collector.settings.pki, lambda: self.now)
        self.issuing = replace(collector.issuing, authority=self.authority, now=lambda: self.now)
        self.context = replace(collector.operations.context, issuing=self.issuing)
        self.operations = Operations(self.context)
        self.joining = Enroller(self.issuing, FailureLimiter())
        self.renewal = Renewal(self.issuing, Challenges())
        self.held: dict[bytes, CertificateChain] = {}
        self.door = CertificateAuthoriser(self.authority, self.issuing.access_table, now=lambda: self.now)

    def enrol(self, population: str = "server") -> EnrolResult:
        """Enrol a machine."""
        order = {"org_entity": "DSI", "site": "Lyon", "population": population}
        token = self.operations.perform("token_create", order)["join"]["token"]
        joined = self.joining.join(Application(token, _request(), HERE))
        assert joined.chain is not None
        self.held[joined.host.agent_id] = joined.chain
        return joined

    def renew(self, joined: EnrolResult, *, arrives: bool = True) -> None:
        """Renew its certificate; with `arrives` the machine keeps the new one and shows it."""
        agent_id = joined.host.agent_id
        caller = self.door.authorise(_pem(self.held[agent_id]))
        chain = self.renewal.renew(caller, _request())
        if arrives:
            self.held[agent_id] = chain
            self.door.authorise(_pem(chain))

    def census(self) -> tuple[int, int, int]:
        """Return (machines, without the new root, with a certificate of the old intermediate)."""
        found = ca.measure_progress(self.context)
        return found.hosts, found.hosts_without_new_root, found.hosts_with_old_intermediate


def _request() -> bytes:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([]))
    return builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)


def _pem(chain: CertificateChain) -> bytes:
    return x509.load_der_x509_certificate(chain.certificate_der).public_bytes(Encoding.PEM)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Open a collector on the bench."""
    settings = settings_in(tmp_path)
    initialise(settings, site="Lyon")
    with open_collector(settings) as collector:
        yield Bench(collector)


def test_who_does_not_have_the_new_root_yet(bench):
    """A machine has the new root once it shows a certificate that came with both roots.
    A renewal whose answer was lost does not count."""
    diligent, unlucky, absent = bench.enrol(), bench.enrol(), bench.enrol("workstation")
    assert bench.census() == (3, 0, 0)
    ca.rotate(bench.context)
    assert bench.census() == (3, 3, 0)
    bench.renew(diligent)  # within a minute of the rotation: not counted yet
    assert bench.census() == (3, 3, 0)
    bench.now += timedelta(hours=1)
    bench.renew(absent, arrives=False)
    bench.renew(unlucky, arrives=False)
    bench.renew(diligent, arrives=False)
    assert bench.census() == (3, 3, 0)
    newcomer = bench.enrol()
    assert bench.census() == (4, 3, 0)
    ca.switch(bench.context)
    assert bench.census() == (4, 3, 1)
    bench.now += timedelta(hours=2)
    bench.renew(newcomer)
    assert bench.census() == (4, 3, 0)
    bench.operations.perform("host_status", {"host": unlucky.host.agent_id.hex(), "status": "suspended"})
    assert bench.census() == (3, 2, 0)
    bench.now += timedelta(
        days=402
    )  # servers cannot renew any more; the workstation's certificate ended 395 days ago
    assert bench.census()[:2] == (1, 1)
    with pytest.raises(
        AdminError, match=r"1 machine\(s\) do not have the new root yet and would have to enrol"
    ):
        ca.retire(bench.context)
    bench.now += timedelta(days=7)
    assert bench.census() == (0, 0, 0)
    assert ca.retire(bench.context)["phase"] == "steady"


def test_retire_waits_for_certificates_of_the_old_intermediate(bench):
    """Their holders have the new root, but would be refused until their certificates end."""
    ca.rotate(bench.context)
    bench.now += timedelta(hours=1)
    bench.enrol()
    ca.switch(bench.context)
    with pytest.raises(AdminError, match="and 1 would be refused until"):
        ca.retire(bench.context)
    bench.now += timedelta(hours=24)
    assert ca.retire(bench.context)["phase"] == "steady"


def test_a_renewal_s_answer_lost_across_a_switch_is_made_anew(bench):
    """The same request after the switch gets a certificate of the new intermediate."""
    joined, request = bench.enrol(), _request()
    assert joined.chain is not None
    caller = bench.door.authorise(_pem(joined.chain))
    ca.rotate(bench.context)
    first = bench.renewal.renew(caller, request)
    assert bench.renewal.renew(caller, request) == first
    ca.switch(bench.context)
    second = bench.renewal.renew(caller, request)
    assert not bench.authority.is_current(first.certificate_der)
    assert bench.authority.is_current(second.certificate_der)
    for _ in range(
        8
    ):  # all issued at one moment, as for a workstation on one day: the newest is found, whatever its serial
        assert bench.renewal.renew(caller, request) == second


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a data directory that commands find by their environment."""
    settings = settings_in(tmp_path)
    lead_commands_to(settings, monkeypatch)
    initialise(settings, site="Lyon")
    return settings.data_dir


def test_a_rotation_by_its_commands(data, capsys):
    """Each command prints the present phase, the next command, and the root keys to move off-line."""
    expected = {
        "show": ("no rotation under way; 0 machine(s)", ""),
        "rotate": ("next: veilleuse ca switch", "next-root.key"),
        "switch": ("at 0 and 0: veilleuse ca retire", "old-root.key"),
        "retire": ("no rotation under way", "root.key"),
        "renew-intermediate": ("previous intermediate", "root.key"),
    }
    for command, (words, aside) in expected.items():
        assert run(["ca", command]) == 0, command
        printed = capsys.readouterr()
        assert words in printed.out
        assert aside in printed.err
    assert run(["ca", "cancel"]) == 1
    assert "no rotation is under way" in capsys.readouterr().err
    assert run(["ca", "show", "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    previous = [each["sha256"] for each in shown["certificates"] if each["role"] == "previous_intermediate"]
    assert len(previous) == 2
    assert run(["ca", "forget", previous[0][:16]]) == 0
    assert previous[0] not in capsys.readouterr().out
    assert (data / "ca").stat().st_mode & 0o777 == 0o700


def test_the_root_key_under_a_passphrase(data, tmp_path, capsys, monkeypatch):
    """The passphrase of an encrypted off-line key is asked for on a terminal; elsewhere the command fails."""
    key = load_pem_private_key((data / "ca/root.key").read_bytes(), None)
    stick = tmp_path / "stick.pem"
    encryption = BestAvailableEncryption(b"correct horse")
    stick.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption))
    (data / "ca/root.key").unlink()
    assert run(["ca", "rotate"]) == 2
    assert "give it with --root-key FILE; when nobody has it, --no-cross" in capsys.readouterr().err
    assert run(["ca", "rotate", "--root-key", str(stick)]) == 2
    assert "run the command on a terminal" in capsys.readouterr().err
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    monkeypatch.setattr(getpass, "getpass", lambda *_, **__: "wrong")
    assert run(["ca", "rotate", "--root-key", str(stick)]) == 2
    assert "cannot be decrypted" in capsys.readouterr().err
    monkeypatch.setattr(getpass, "getpass", lambda *_, **__: "correct horse")
    assert run(["ca", "rotate", "--root-key", str(stick)]) == 0
    assert "next-root.key" in capsys.readouterr().err
    assert not (data / "ca/root.key").exists()


def test_import_by_its_command(data, tmp_path, capsys):
    """Files that are no PEM, too long or absent are refused.
    A good one begins a rotation, and join files contain its root after the switch."""
    organisation = Organisation("P-384")
    arguments = organisation.files(tmp_path)
    (tmp_path / "long.pem").write_bytes(b"x" * 20_000)
    for file, words in (
        ("long.pem", "at most 12,288 are read"),
        ("absent.pem", "cannot read"),
        ("key.pem", "no certificate"),
    ):
        assert run(["ca", "import", *arguments, "--root", str(tmp_path / file)]) == 2
        assert words in capsys.readouterr().err
    assert run(["ca", "import", *arguments]) == 0
    assert "CN=Ville root" in capsys.readouterr().out
    assert run(["ca", "import", *arguments]) == 1
    assert "a rotation is under way" in capsys.readouterr().err
    assert run(["ca", "switch"]) == 0
    join = tmp_path / "join.json"
    order = ["--entity", "DSI", "--site", "Lyon", "--population", "server", "--output", str(join)]
    assert run(["token", "create", *order]) == 0
    assert json.loads(join.read_text())["ca_pem"].encode() == organisation.root_pem


def test_no_key_reaches_the_log_of_a_running_collector(tmp_path, monkeypatch, capsys, caplog):
    """Steps over the administration socket are logged without their keys (S19)."""
    settings = settings_in(tmp_path)
    lead_commands_to(settings, monkeypatch)
    caplog.set_level("DEBUG")
    with served(settings):
        key = settings.data_dir / "ca/root.key"
        text = key.read_text()
        stick = tmp_path / "stick.pem"
        key.rename(stick)
        assert run(["ca", "rotate", "--root-key", str(stick)]) == 0
        assert run(["ca", "rotate", "--root-key", str(stick)]) == 1
        assert (
            run(["ca", "import", "--certificate", str(stick), "--key", str(stick), "--root", str(stick)]) == 2
        )
        assert run(["ca", "switch"]) == 0
    said = caplog.text + "".join(capsys.readouterr())
    assert "certificate authority changed" in said
    assert text.splitlines()[1] not in said
