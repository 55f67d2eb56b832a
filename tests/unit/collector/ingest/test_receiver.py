# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Tests of the service of :8641 on a real loopback server with mutual TLS, a real writer and a real store."""

from __future__ import annotations

import gzip
import hashlib
import logging
from contextlib import closing
from typing import Any

import grpc
import pytest

from tests.support.pushes import (
    HOUR,
    MONDAY_10H,
    NOW,
    WORKSTATION,
    Stream,
    cell,
    clock,
    measurement,
    realistic,
    site,
    week,
)
from tests.support.receiving import hello, hold, let_a_minute_pass, refusal, stream_request
from tests.support.service import Service
from tests.support.waiting import PATIENCE_SECONDS, until
from veilleuse.collector import settings
from veilleuse.collector.errors import StoreFailing
from veilleuse.collector.ingest import hello as hello_module
from veilleuse.collector.ingest import receiver, writer
from veilleuse.collector.ingest.admission import Admission
from veilleuse.collector.ingest.call_queue import LONGEST_SECONDS
from veilleuse.collector.model.hosts import Caller, HostStatus
from veilleuse.collector.model.records import AgentId, HostId
from veilleuse.collector.settings import Grpc
from veilleuse.collector.store import create_store
from veilleuse.collector.store.directory import Reserve
from veilleuse.collector.store.sqlite.reader import SqliteReader
from veilleuse.wire.chain import chain_start
from veilleuse.wire.v1 import telemetry_pb2 as pb
from veilleuse.wire.vocabulary import Population

# --- Hello


def test_hello_says_where_both_stand_and_gives_the_calendar_once(service):
    """Hello gives the epoch's mark and chain, a new nonce, and the calendar when its hash differs."""
    stub, stream = service.agent()
    first = stub.Hello(hello(stream))
    assert (first.mark, first.chain, first.protocol) == (0, chain_start(stream.epoch), 1)
    assert len(first.next_instance_id) == 16
    assert first.calendar.time_zone == "Europe/Paris"
    assert [span.start_minute for span in first.calendar.open_spans] == [480] * 5
    assert not first.HasField("configuration")
    sha256 = hashlib.sha256(site().calendar_json.encode()).digest()
    status = pb.DocumentStatus(sha256=sha256, state=pb.APPLIED_STATE_CONFIRMED)
    stub.Push(stream_request(stream))
    second = stub.Hello(hello(stream, calendar=status, instance_id=first.next_instance_id))
    assert not second.HasField("calendar")
    assert (second.mark, second.chain) == (1, stream.chains[1])
    assert second.next_instance_id != first.next_instance_id
    assert service.health.snapshot()["hellos"] == {"ok": 2}


def test_hello_records_facts_and_health(service):
    """Facts are cleaned, and a workstation's contact is stored as a day."""
    stub, stream = service.agent(Population.WORKSTATION)
    facts = pb.Facts(device_class=pb.DEVICE_CLASS_LAPTOP, vendor="Dell <Inc>", model="Latitude 5440")
    stub.Hello(hello(stream, facts=facts, health=pb.Health(agent_version="0.1.0", spool_records=9)))
    host = service.store.registry.host(stream.host_id)
    assert (host.facts.vendor, host.facts.model) == (None, "Latitude 5440")
    assert host.health.spool_records == 9
    assert host.last_contact_unix_milliseconds == NOW - NOW % (24 * HOUR)


def test_an_older_instance_waits(service):
    """A repeated nonce is served on its latest connection, since the answer may be lost; the older one must
    say Hello again. After a delivery, the older one's Hello has to wait."""
    stub, stream = service.agent()
    other = service.another(stream)
    stub.Hello(hello(stream))
    other.Hello(hello(stream))
    assert refusal(stub.Push, stream_request(stream))[:2] == (
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        "hello_again",
    )
    other.Push(stream.request())
    code, reason, wait = refusal(stub.Hello, hello(stream))
    assert (code, reason, wait) == (grpc.StatusCode.RESOURCE_EXHAUSTED, "older_instance", 900_000)
    assert service.health.snapshot()["hellos"] == {"ok": 1, "stale_instance": 1}


@pytest.mark.parametrize(
    ("fields", "code", "reason"),
    [
        ({"epoch": b"x"}, grpc.StatusCode.INVALID_ARGUMENT, "epoch_length"),
        ({"instance_id": b"x"}, grpc.StatusCode.INVALID_ARGUMENT, "instance_id_length"),
        ({"features": ["f"] * 33}, grpc.StatusCode.INVALID_ARGUMENT, "too_many_features"),
        (
            {"calendar": pb.DocumentStatus(sha256=b"x")},
            grpc.StatusCode.INVALID_ARGUMENT,
            "document_hash_length",
        ),
        (
            {"protocol": pb.ProtocolRange(minimum=7, maximum=9)},
            grpc.StatusCode.FAILED_PRECONDITION,
            "protocol_unsupported",
        ),
        ({"protocol": pb.ProtocolRange()}, grpc.StatusCode.FAILED_PRECONDITION, "protocol_unsupported"),
        ({"features": ["f" * 70_000]}, grpc.StatusCode.INVALID_ARGUMENT, "message_too_large"),
    ],
)
def test_a_malformed_hello_is_refused_with_its_reason(service, fields, code, reason):
    """The refusal has a status and one word, and is counted."""
    stub, stream = service.agent()
    assert refusal(stub.Hello, hello(stream, **fields))[:2] == (code, reason)
    assert service.health.snapshot()["calls_refused"] == {reason: 1}


# --- Push


def test_a_push_is_answered_when_it_is_durable(service):
    """The answer STORED has mark and chain, and another connection sees the record."""
    stub, stream = service.agent()
    with closing(SqliteReader(service.directory)) as reader:
        for number in range(1, 4):
            answer = stub.Push(stream_request(stream))
            assert answer.outcome == pb.PUSH_OUTCOME_STORED
            assert (answer.mark, answer.chain) == (number, stream.chains[number])
            assert answer.next_send_after_milliseconds == 0
            assert reader.record_count() == number


def test_an_early_or_a_forked_push_is_told_where_we_stand(service):
    """EXPECTED_EARLIER and CONFLICT are answers, not errors."""
    stub, stream = service.agent()
    stub.Push(stream_request(stream))
    early = Stream(stream.host_id, epoch=stream.epoch)
    early.add(*(realistic(MONDAY_10H + i * HOUR) for i in range(3)))
    assert stub.Push(early.request(3)).outcome == pb.PUSH_OUTCOME_EXPECTED_EARLIER
    answer = stub.Push(early.request(1, 2))
    assert (answer.outcome, answer.mark, answer.chain) == (pb.PUSH_OUTCOME_CONFLICT, 1, stream.chains[1])


def test_refused_records_are_named_and_a_gap_in_their_place_is_taken(service):
    """A push with a refused record stores nothing; with a gap at its number the stream continues."""
    stub, stream = service.agent()
    good, bad = realistic(MONDAY_10H), measurement(clock(0))
    stream.add(good, bad)
    answer = stub.Push(stream.request())
    assert answer.outcome == pb.PUSH_OUTCOME_REFUSED
    assert [(r.seq, r.reason) for r in answer.refusals] == [(2, "period_too_old")]
    assert (answer.mark, answer.chain) == (0, chain_start(stream.epoch))
    again = Stream(stream.host_id, epoch=stream.epoch)
    again.add(good, pb.Record(gap=pb.Gap(reason=pb.GAP_REASON_REFUSED, records=1)))
    assert stub.Push(again.request()).mark == 2
    snapshot = service.health.snapshot()
    assert snapshot["records_refused"] == {"period_too_old": 1}
    assert snapshot["pushes"] == {"refused": 1, "stored": 1}


def test_a_period_filled_too_often_is_refused_by_the_store(service):
    """A refusal by the store is answered and counted like any other."""
    stub, stream = service.agent()
    records = [
        measurement(clock(duration=HOUR), [cell(HOUR)], calendar_sha256=i.to_bytes(32)) for i in range(5)
    ]
    stream.add(*records)
    answer = stub.Push(stream.request())
    assert answer.outcome == pb.PUSH_OUTCOME_REFUSED
    assert [(r.seq, r.reason) for r in answer.refusals] == [(5, "period_full")]
    assert (answer.mark, answer.chain) == (0, chain_start(stream.epoch))
    snapshot = service.health.snapshot()
    assert snapshot["records_refused"] == {"period_full": 1}
    assert snapshot["pushes"] == {"refused": 1}


def test_the_ceiling_is_that_of_the_machine_s_own_class(service):
    """400 W are accepted from a tower but not from a laptop, by the class of the last Hello."""
    stub, stream = service.agent(Population.WORKSTATION)
    point = pb.Point(kind=pb.POINT_KIND_PLUG, domain="plug", boundary=pb.BOUNDARY_WALL, subject="machine")
    record = measurement(week(2026, 10), [cell(energies=[(0, 400 * 60_000, 60_000)])], [point])
    stub.Hello(hello(stream, facts=pb.Facts(device_class=pb.DEVICE_CLASS_LAPTOP)))
    stream.add(record)
    assert stub.Push(stream.request()).refusals[0].reason == "energy_above_ceiling"
    stub.Hello(hello(stream, facts=pb.Facts(device_class=pb.DEVICE_CLASS_TOWER)))
    assert stub.Push(stream.request()).outcome == pb.PUSH_OUTCOME_STORED


def test_after_a_restart_the_class_is_asked_for_once(service):
    """A Push without an earlier Hello in this process reads the machine's class from the store."""
    stub, stream = service.agent()
    service.servicer._device_classes.clear()
    assert stub.Push(stream_request(stream)).mark == 1
    assert list(service.servicer._device_classes) == [stream.host_id]


def test_bytes_that_are_no_message_are_refused(service):
    """Bytes that are no message give INVALID_ARGUMENT."""
    service.agent()
    channel = service.channels[0]
    raw = channel.unary_unary("/veilleuse.wire.v1.TelemetryService/Push", request_serializer=None)
    assert refusal(raw, b"\xff" * 50)[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "not_a_message")


def test_a_bomb_is_bounded_by_the_decompressed_size(service):
    """S8: gRPC itself refuses gzip of zeros with RESOURCE_EXHAUSTED, and the next call is answered."""
    stub, stream = service.agent()
    request = pb.PushRequest(
        epoch=stream.epoch, first_seq=1, chain_before=bytes(32), records=[bytes(8 * 2**20)]
    )
    assert len(gzip.compress(request.SerializeToString())) < 2**20
    with pytest.raises(grpc.RpcError) as caught:
        stub.Push(request, compression=grpc.Compression.Gzip, timeout=PATIENCE_SECONDS)
    assert caught.value.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
    following = stream_request(stream)
    until(lambda: is_stored(stub, following))


def is_stored(stub: Any, request: pb.PushRequest) -> bool:
    """Return False while another Push of this machine still counts as being read."""
    try:
        return bool(stub.Push(request).mark == 1)
    except grpc.RpcError as error:
        if "being read" not in (error.details() or ""):
            raise
        return False


# --- who may call


def test_every_call_is_authorised(service):
    """S2: a suspension between two calls of one connection refuses the next, until it is lifted."""
    stub, stream = service.agent()
    stub.Hello(hello(stream))
    request = stream_request(stream)
    agent_id = next(iter(service.authoriser.hosts))
    for status in (HostStatus.SUSPENDED, HostStatus.REVOKED):
        service.authoriser.status[agent_id] = status
        for call, message in (
            (stub.Hello, hello(stream)),
            (stub.Push, request),
            (stub.Renew, pb.RenewRequest()),
        ):
            assert refusal(call, message)[:2] == (grpc.StatusCode.PERMISSION_DENIED, status.value)
    service.authoriser.status.clear()
    assert stub.Push(request).mark == 1
    assert service.health.snapshot()["calls_refused"] == {"suspended": 3, "revoked": 3}


def test_an_unknown_agent_is_refused_before_its_message_is_read(service):
    """A stranger gets `unknown_agent` even when the message is noise."""
    stub = service.stranger()
    assert refusal(stub.Push, pb.PushRequest())[:2] == (grpc.StatusCode.PERMISSION_DENIED, "unknown_agent")
    raw = service.channels[-1].unary_unary(
        "/veilleuse.wire.v1.TelemetryService/Hello", request_serializer=None
    )
    assert refusal(raw, b"\xff" * 50)[:2] == (grpc.StatusCode.PERMISSION_DENIED, "unknown_agent")


def test_renewal_goes_to_the_enrolment(service):
    """The enrolment's chain is returned, and its refusal is a status."""
    stub, _ = service.agent()
    answer = stub.Renew(pb.RenewRequest(certificate_request_der=b"request"))
    assert answer.certificate.certificate_der == b"request"
    assert (list(answer.certificate.intermediates_der), list(answer.certificate.roots_der)) == (
        [b"intermediate"],
        [b"root"],
    )
    assert refusal(stub.Renew, pb.RenewRequest())[:2] == (grpc.StatusCode.INVALID_ARGUMENT, "bad_request")


# --- trouble


def test_a_full_store_is_a_delay(service):
    """R6: a push gets UNAVAILABLE with a delay while Hello works; it is accepted when there is space."""
    stub, stream = service.agent()
    request = stream_request(stream)
    service.store.ingest._reserve = Reserve(service.directory, 2**62, 1.0)
    code, reason, delay = refusal(stub.Push, request)
    assert (code, reason) == (grpc.StatusCode.UNAVAILABLE, "store_full")
    assert delay > 0
    assert stub.Hello(hello(stream)).mark == 0
    service.store.ingest._reserve = Reserve(service.directory, 0, 0.0)
    assert stub.Push(request).mark == 1


def test_a_full_queue_is_a_delay(service):
    """The refusal is RESOURCE_EXHAUSTED with a delay that differs, so that agents do not return together."""
    stub, stream = service.agent()
    request = stream_request(stream)
    stub.Hello(hello(stream))
    service.servicer._admission = full = Admission(1)
    with full.push(Caller(HostId(0), AgentId(b""), Population.SERVER, "", 1), 100):
        told = [refusal(stub.Push, request) for _ in range(3)]
    assert {each[:2] for each in told} == {(grpc.StatusCode.RESOURCE_EXHAUSTED, "queue_full")}
    delays = {each[2] for each in told}
    assert all(5_000 <= delay <= 30_000 for delay in delays)
    assert len(delays) > 1
    assert stub.Push(request).mark == 1


def test_a_stuck_writer_leaves_somebody_to_say_so(tmp_path, authority, monkeypatch):
    """While the disk does not answer, pushes wait until the queue is full. The next one is refused after a
    while, and a renewal is answered meanwhile. When the disk answers again, every waiting push is stored."""
    assert 2 < LONGEST_SECONDS < receiver.DEADLINE_SECONDS
    monkeypatch.setattr(receiver, "DEADLINE_SECONDS", PATIENCE_SECONDS)
    limits = settings.Store(free_bytes_minimum=0)
    with closing(create_store(tmp_path, limits, simulated=False, now_unix_milliseconds=NOW)) as store:
        store.registry.put_site(site())
        service = Service(tmp_path, store, authority, Grpc(workers=8, queue_pushes=1000))
        service.writer.start()
        service.server.start()
        agents = [service.agent() for _ in range(8)]
        for stub, stream in agents:
            stub.Hello(hello(stream))
        release = hold(service.writer)
        waiting = [
            stub.Push.future(stream_request(stream), timeout=PATIENCE_SECONDS) for stub, stream in agents[:7]
        ]
        until(lambda: service.writer.waiting == 7)
        stub, stream = agents[7]
        queue, _ = service.servicer._methods._methods[f"/{receiver.SERVICE}/Push"]
        assert queue._longest_seconds == LONGEST_SECONDS
        queue._longest_seconds = PATIENCE_SECONDS
        in_line = stub.Push.future(stream_request(stream), timeout=PATIENCE_SECONDS)
        until(lambda: queue._calls)
        assert stub.Renew(pb.RenewRequest(certificate_request_der=b"request"), timeout=PATIENCE_SECONDS)
        assert not in_line.done(), "the renewal waited behind the push"
        queue._longest_seconds = 0.0
        assert refusal(lambda request, timeout: in_line.result(), None)[1] == "queue_full"
        release.set()
        assert [push.result().mark for push in waiting] == [1] * 7
        for channel in service.channels:
            channel.close()
        service.server.stop(0).wait()
        service.servicer.close()
        service.writer.stop()


def test_a_call_whose_time_is_over_stores_nothing(service, monkeypatch):
    """A push whose client's deadline passed is dropped while the writer is busy; the next one is accepted."""
    stub, stream = service.agent()
    stub.Hello(hello(stream))
    request = stream_request(stream)
    release = hold(service.writer)
    with monkeypatch.context() as later:
        later.setattr(receiver, "DEADLINE_SECONDS", 2 * PATIENCE_SECONDS)
        let_a_minute_pass(later, hello_module, writer)
        assert refusal(stub.Push, request)[:2] == (grpc.StatusCode.DEADLINE_EXCEEDED, "deadline")
        release.set()
        until(lambda: service.health.snapshot()["pushes"] == {"expired": 1})
    assert stub.Push(request).mark == 1
    assert service.health.snapshot()["pushes"] == {"expired": 1, "stored": 1}


def test_what_nobody_foresaw_is_internal_and_logged(service, caplog, monkeypatch):
    """An unforeseen error gives one line to the agent and a traceback in the log; the service continues."""
    stub, stream = service.agent()
    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(service.store.ingest, "append", lambda pushes: 1 / 0)
        code, reason, _ = refusal(stub.Push, stream_request(stream))
    assert (code, reason) == (grpc.StatusCode.INTERNAL, "internal")
    assert any(
        record.exc_info and "ZeroDivisionError" in str(record.exc_info[0]) for record in caplog.records
    )
    assert stub.Push(stream.request()).mark == 1


def test_a_disk_that_answers_with_errors_is_a_delay(service, monkeypatch):
    """R5: the refusal is UNAVAILABLE and counted, and the same push is stored later."""
    stub, stream = service.agent()

    def failing(pushes: Any) -> Any:
        raise StoreFailing("cannot use data.db (SQLITE_IOERR_FSYNC): look at the disk and the rights")

    with monkeypatch.context() as patch:
        patch.setattr(service.store.ingest, "append", failing)
        assert refusal(stub.Push, stream_request(stream))[:2] == (
            grpc.StatusCode.UNAVAILABLE,
            "store_failing",
        )
    assert stub.Push(stream.request()).mark == 1
    assert service.health.snapshot()["store_errors"] == {"failing": 1}


@pytest.mark.promise("P14")
def test_no_log_line_tells_which_workstation_called(service, caplog, figure):
    """P14: a whole exchange, a refusal and a conflict of a workstation leave no id in the log."""
    stub, stream = service.agent(Population.WORKSTATION)
    with caplog.at_level(logging.DEBUG, "veilleuse"):
        stub.Hello(hello(stream))
        stream.add(measurement(week(2026, 10)))
        stub.Push(stream.request())
        fork = Stream(stream.host_id, WORKSTATION, stream.epoch)
        fork.add(measurement(week(2026, 11)))
        assert stub.Push(fork.request()).outcome == pb.PUSH_OUTCOME_CONFLICT
        bad = Stream(stream.host_id, WORKSTATION)
        bad.add(measurement(clock()))
        stub.Push(bad.request())
    agent_id: AgentId = next(iter(service.authoriser.hosts))
    for record in caplog.records:
        text = str(vars(record))
        assert agent_id.hex() not in text
        assert stream.epoch.hex() not in text
        assert not hasattr(record, "host_id")
    figure(f"0 of {len(caplog.records)} log lines of an exchange identify the workstation")
