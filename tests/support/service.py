# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run the service of :8641 with all stages behind it, on a loopback port with mutual TLS, for tests."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent import futures
from contextlib import closing, contextmanager
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from tests.support import clock
from tests.support.fakes.authority import DER, PEM, Signed, TestAuthority, agent_id_of
from tests.support.pushes import NOW, WORKSTATION, Stream, enrol, site
from veilleuse.collector.errors import EnrolmentRefused, NotAuthorised
from veilleuse.collector.ingest.counters import Health
from veilleuse.collector.ingest.hello import PopulationConfigs
from veilleuse.collector.ingest.receiver import TelemetryServicer
from veilleuse.collector.ingest.writer import Writer
from veilleuse.collector.model.hosts import Caller, CertificateChain, Host, HostStatus
from veilleuse.collector.settings import Grpc
from veilleuse.collector.settings import Store as StoreSettings
from veilleuse.collector.store import create_store
from veilleuse.collector.store.sqlite import SqliteStore
from veilleuse.wire.v1 import telemetry_pb2_grpc as pb_grpc
from veilleuse.wire.vocabulary import Population


@contextmanager
def serving(
    directory: Path, authority: TestAuthority, limits: Grpc | None = None, options: Sequence[Any] = ()
) -> Iterator[Service]:
    """Run a service over an empty store with one site while the block runs."""
    room = StoreSettings(free_bytes_minimum=0)
    with closing(create_store(directory, room, simulated=False, now_unix_milliseconds=NOW)) as store:
        store.registry.put_site(site())
        made = Service(directory, store, authority, limits, options=options)
        made.writer.start()
        made.server.start()
        yield made
        for channel in made.channels:
            channel.close()
        made.server.stop(0).wait()
        made.servicer.close()
        made.writer.stop()


class MapAuthoriser:
    """Implements ports.Authoriser over a dictionary: agent id → host."""

    def __init__(self) -> None:
        self.hosts: dict[bytes, Host] = {}
        self.status: dict[bytes, HostStatus] = {}
        self.calls = 0

    def authorise(self, certificate_pem: bytes | None) -> Caller:
        self.calls += 1
        assert certificate_pem is not None, "mutual TLS"
        certificate = x509.load_pem_x509_certificate(certificate_pem)
        agent_id = agent_id_of(certificate)
        host = self.hosts.get(agent_id)
        if host is None:
            raise NotAuthorised("unknown_agent", "this machine is not known here: enrol it again")
        if certificate.not_valid_after_utc < clock.now():
            raise NotAuthorised("expired", "the certificate has expired: renew it")
        status = self.status.get(agent_id, HostStatus.ACTIVE)
        if status is not HostStatus.ACTIVE:
            raise NotAuthorised(status.value, f"this machine is {status.value}")
        return Caller(host.host_id, host.agent_id, host.population, f"{certificate.serial_number:x}", 1)


class StubbornRenewer:
    """Implements ports.Renewer: returns the request as the certificate, and refuses an empty request."""

    def renew(self, caller: Caller, certificate_request_der: bytes) -> CertificateChain:
        if not certificate_request_der:
            raise EnrolmentRefused("bad_request", "this is no certificate request")
        return CertificateChain(certificate_request_der, (b"intermediate",), (b"root",))


class Service:
    """A telemetry service behind one port."""

    def __init__(
        self,
        directory: Path,
        store: SqliteStore,
        authority: TestAuthority,
        limits: Grpc | None = None,
        options: Sequence[tuple[str, int]] = (),
    ) -> None:
        limits = limits or Grpc()
        self.directory = directory
        self.store = store
        self.authority = authority
        self.health = Health()
        self.writer = Writer(store, self.health, queue_pushes=limits.admitted_pushes)
        self.authoriser = MapAuthoriser()
        self.configuring = PopulationConfigs(store.configurations)
        self.servicer = TelemetryServicer(
            committer=self.writer,
            authoriser=self.authoriser,
            renewer=StubbornRenewer(),
            registry=store.registry,
            ingest=store.ingest,
            configuring=self.configuring,
            health=self.health,
            queue_pushes=limits.admitted_pushes,
            allow_fake=False,
            now_unix_milliseconds=lambda: NOW,
        )
        self.server = grpc.server(
            futures.ThreadPoolExecutor(1), options=[("grpc.max_receive_message_length", 2**20), *options]
        )
        self.servicer.add_to(self.server)
        signed = authority.server
        chain = signed.pem + authority.intermediate.pem
        credentials = grpc.ssl_server_credentials([(signed.key_pem, chain)], authority.root.pem, True)
        self.port = self.server.add_secure_port("127.0.0.1:0", credentials)
        self.channels: list[grpc.Channel] = []

    def agent(self, population: Population = Population.SERVER, days: float = 1) -> tuple[Any, Stream]:
        """Enrol a host with a certificate of `days`; return its stub on a new channel and its stream."""
        host_id = enrol(self.store.registry, population)
        host = self.store.registry.host(host_id)
        assert host is not None
        self.authoriser.hosts[host.agent_id] = host
        leaf = self.leaf(host.agent_id, days)
        machine = WORKSTATION if population is Population.WORKSTATION else Stream.machine
        return pb_grpc.TelemetryServiceStub(self._channel(leaf)), Stream(host_id, machine)

    def another(self, stream: Stream) -> Any:
        """Return a stub on a further channel of the stream's host."""
        host = self.store.registry.host(stream.host_id)
        assert host is not None
        return pb_grpc.TelemetryServiceStub(self._channel(self.leaf(host.agent_id)))

    def stranger(self) -> Any:
        """Return a stub whose certificate names an unknown agent."""
        return pb_grpc.TelemetryServiceStub(self._channel(self.leaf(bytes(16))))

    def leaf(self, agent_id: bytes, days: float = 1) -> Signed:
        """Return a new key with an agent's certificate, which expires in `days`."""
        key = ec.generate_private_key(ec.SECP256R1())
        request = (
            x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
        )
        now = clock.now()
        der = request.public_bytes(DER)
        certificate = self.authority.issue(
            der, agent_id, now - timedelta(hours=1), now + timedelta(days=days)
        )
        return Signed(certificate, key)

    def _channel(self, leaf: Signed) -> grpc.Channel:
        credentials = grpc.ssl_channel_credentials(
            self.authority.root.pem,
            leaf.key_pem,
            leaf.pem + self.authority.intermediate.certificate.public_bytes(PEM),
        )
        channel = grpc.secure_channel(f"127.0.0.1:{self.port}", credentials)
        self.channels.append(channel)
        return channel
