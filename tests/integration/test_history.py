# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""R1, R4 in small: agents keep a history of what was acknowledged; the collector is killed again and again; both agree."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path

import grpc

from tests.pushes import MONDAY_10H, NOW, Stream, enrol, realistic, site
from veilleuse.collector import settings
from veilleuse.collector.codec import cells_from_wire
from veilleuse.collector.model import Grain, HostId
from veilleuse.collector.store.sqlite import SqliteReader, SqliteStore, create_store, open_store
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.v1 import telemetry_pb2_grpc as pb_grpc

ROOT = Path(__file__).parents[2]
LIMITS = settings.Store(free_bytes_minimum=0)
AGENTS = 10
KILLS = 8

COLLECTOR = """
import json, sys
from pathlib import Path
from tests.fakes.authority import PEM, TestAuthority
from tests.service import Service
from veilleuse.collector import settings
from veilleuse.collector.store.sqlite import open_store

store = open_store(Path(sys.argv[1]), settings.Store(free_bytes_minimum=0))
service = Service(Path(sys.argv[1]), store, TestAuthority())
doors = {}
for host in store.registry.hosts():
    service.authoriser.hosts[host.agent_id] = host
    leaf = service.leaf(host.agent_id)
    chain = leaf.pem + service.authority.intermediate.certificate.public_bytes(PEM)
    doors[host.host_id] = [leaf.key_pem.decode(), chain.decode()]
service.writer.start()
service.server.start()
print(json.dumps({"port": service.port, "root": service.authority.root.pem.decode(), "doors": doors}), flush=True)
service.server.wait_for_termination()
"""


class Collector:
    """A process that is killed and started again, each time on another port with another authority."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.start()

    def start(self) -> None:
        paths = os.pathsep.join(map(str, (ROOT, ROOT / "proto", ROOT / "collector")))
        self._process = subprocess.Popen(
            [sys.executable, "-c", COLLECTOR, str(self._directory)],
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": paths},
            cwd=ROOT,
        )
        assert self._process.stdout is not None
        self.where = json.loads(self._process.stdout.readline())

    def kill(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdout is not None
        self._process.stdout.close()


class Agent:
    """Sends records as badly as an agent may: again, in overlapping runs, with no patience, in new epochs."""

    def __init__(self, host_id: HostId, collector: Collector) -> None:
        self.host_id = host_id
        self.streams = [Stream(host_id)]
        self.acknowledged = {self.streams[0].epoch: 0}
        self.failures: list[str] = []
        self._collector = collector
        self._chance = random.Random(int(host_id))
        self._made: list[bytes] = []

    def run(self, stop: threading.Event) -> None:
        while not stop.is_set():
            where = self._collector.where
            key, chain = where["doors"][str(self.host_id)]
            credentials = grpc.ssl_channel_credentials(where["root"].encode(), key.encode(), chain.encode())
            with grpc.secure_channel(f"127.0.0.1:{where['port']}", credentials) as channel:
                stub = pb_grpc.TelemetryServiceStub(channel)
                while not stop.is_set() and where is self._collector.where:
                    try:
                        self._exchange(stub)
                    except grpc.RpcError:
                        time.sleep(0.02)

    def _exchange(self, stub: pb_grpc.TelemetryServiceStub) -> None:
        chance = self._chance
        if chance.random() < 0.02 and len(self.streams) < 6:
            self._new_epoch()
        stream = self.streams[-1]
        mark = self.acknowledged[stream.epoch]
        for _ in range(chance.randrange(4)):
            record = realistic(MONDAY_10H + 300_000 * len(self._made), milliwatts=1_000 + len(self._made))
            self._made.append(record.SerializeToString(deterministic=True))
            stream.add(self._made[-1])
        if chance.random() < 0.1:
            hello = pb.HelloRequest(epoch=stream.epoch, protocol=pb.ProtocolRange(minimum=1, maximum=1))
            self._note(stream, stub.Hello(hello, timeout=5))
        elif stream.wires:
            first = max(1, min(mark + 1, len(stream.wires)) - chance.choice([0, 0, 0, 1, 7]))
            request = stream.request(first, first + chance.randrange(20))
            answer = stub.Push(request, timeout=chance.choice([5, 5, 0.02]))
            if answer.outcome != pb.PUSH_OUTCOME_STORED:
                self.failures.append(f"outcome {answer.outcome} of records from {first}, mark {mark}")
            self._note(stream, answer)

    def _new_epoch(self) -> None:
        """A spool made anew: what it still holds is sent again under new numbers."""
        stream = Stream(self.host_id)
        stream.add(*self._made[-self._chance.randrange(1, 30) :])
        self.streams.append(stream)
        self.acknowledged[stream.epoch] = 0

    def _note(self, stream: Stream, answer: pb.HelloResponse | pb.PushResponse) -> None:
        if answer.mark < self.acknowledged[stream.epoch] or answer.chain != stream.chains[answer.mark]:
            self.failures.append(f"mark {answer.mark} after {self.acknowledged[stream.epoch]}")
        self.acknowledged[stream.epoch] = answer.mark


def test_a_collector_killed_at_any_moment_keeps_what_it_acknowledged_once(tmp_path):
    """Kills, lost answers, overlaps, replays in new epochs: nothing acknowledged is lost, nothing is counted twice."""
    directory = tmp_path / "data"
    with closing(create_store(directory, LIMITS, simulated=False, now_unix_milliseconds=NOW)) as store:
        store.registry.put_site(site())
        hosts = [enrol(store.registry) for _ in range(AGENTS)]
    collector = Collector(directory)
    agents = [Agent(host, collector) for host in hosts]
    stop, chance = threading.Event(), random.Random(3)
    threads = [threading.Thread(target=agent.run, args=(stop,)) for agent in agents]
    for thread in threads:
        thread.start()
    for _ in range(KILLS):
        time.sleep(chance.uniform(0.1, 0.7))
        collector.kill()
        collector.start()
    time.sleep(0.3)
    stop.set()
    for thread in threads:
        thread.join(20)
    collector.kill()
    with closing(open_store(directory, LIMITS)) as store, closing(SqliteReader(directory)) as reader:
        _compare(agents, store, reader)


def _compare(agents: list[Agent], store: SqliteStore, reader: SqliteReader) -> None:
    energy = dict.fromkeys((agent.host_id for agent in agents), 0)
    for row in reader.point_sums(Grain.HOUR, 0, 2**62):
        energy[row.host_id] += row.energy_millijoules
    records = 0
    for agent in agents:
        assert agent.failures == []
        stored: set[bytes] = set()
        for stream in agent.streams:
            position = store.ingest.position(agent.host_id, stream.epoch)
            assert position.mark >= agent.acknowledged[stream.epoch]
            assert position.chain == stream.chains[position.mark]
            stored.update(stream.wires[: position.mark])
        assert energy[agent.host_id] == sum(map(_energy, stored))
        records += len(stored)
    assert reader.record_count() == records > 20 * len(agents)
    assert sum(len(agent.streams) for agent in agents) > len(agents)


def _energy(wire: bytes) -> int:
    return sum(energy for cell in cells_from_wire(wire) for _, energy, _ in cell.energies)
