# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Clients of another host that leave their requests to the pages unfinished, and what others get meanwhile.

`python unfinished.py attack|ask …` is one side, in its network namespace; `attack` runs both.
"""

from __future__ import annotations

import http.client
import itertools
import json
import select
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

sys.path.insert(0, str(Path(__file__).parents[3]))

from tests.promises.support.networks import FAR_ADDRESS, NEAR_ADDRESS, FarStack, Wire, wire
from tests.support.waiting import PATIENCE_SECONDS, until

PORT: Final = 8640
TOKEN: Final = "0123456789abcdef0123456789abcdef"
SOCKETS: Final = 3_000
"""More than the number that shut the pages for everybody."""
GIVE_UP_SECONDS: Final = 75.0
DRIP_SECONDS: Final = 0.5
PAUSE_SECONDS: Final = 0.05
"""Between two requests of a client that finishes them."""
_POST: Final = b"POST /connexion HTTP/1.1\r\nHost: veilleuse.example.org\r\n"
_GET: Final = b"GET / HTTP/1.1\r\nHost: veilleuse.example.org\r\n\r\n"
KEPT_ALIVE: Final = "GET after GET, kept alive"
"""These are answered, and ask again at once until the attack's seconds are over."""
KINDS: Final[dict[str, tuple[bytes, bytes]]] = {
    "POST without a body": (_POST + b"Content-Length: 10\r\n\r\n", b""),
    "chunked, without a chunk": (_POST + b"Transfer-Encoding: chunked\r\n\r\n", b""),
    "Expect: 100-continue": (_POST + b"Content-Length: 10\r\nExpect: 100-continue\r\n\r\n", b""),
    "a body byte by byte": (_POST + b"Content-Length: 4000\r\n\r\n", b"a"),
    "a head byte by byte": (_POST[:-2] + b"\r\nX-A: ", b"a"),
    "a body that nobody waits for": (
        _POST.replace(b"/connexion", b"/healthz") + b"Content-Length: 4000\r\n\r\n",
        b"a",
    ),
    "pipelined": (_GET * 50 + _POST + b"Content-Length: 10\r\n\r\n", b""),
    KEPT_ALIVE: (_GET.replace(b"GET /", b"GET /confidentialite"), b""),
}
"""Name → bytes of the beginning, and bytes that follow every DRIP_SECONDS."""
PATHS: Final = ("/healthz", "/metrics", "/confidentialite", "/")


class _Client:
    """One unfinished request."""

    def __init__(self, address: tuple[str, int], source: str) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.socket.bind((source, 0))
        self.born = time.monotonic()
        self.sent_at = 0.0
        self.socket.connect_ex(address)


class _Attack:
    """Opens `count` connections and watches them until the server has closed each."""

    def __init__(
        self, address: tuple[str, int], kind: str, count: int, sources: list[str], seconds: float
    ) -> None:
        """`seconds`: for this time each closed connection is followed by another, a second later."""
        self._address, (self._first, self._drip), self._count = address, KINDS[kind], count
        self._is_served = kind == KEPT_ALIVE
        self._sources = itertools.cycle(sources)
        self._until = time.monotonic() + seconds
        self._poller = select.epoll()
        self._clients: dict[int, _Client] = {}
        self._due: list[float] = []
        self.opened = 0
        self.longest_seconds = 0.0

    def run(self) -> dict[str, float]:
        """Return the connections opened, the longest life of one, and how many were never closed."""
        for _ in range(self._count):
            self._open()
        end, dripped = self._until + GIVE_UP_SECONDS, time.monotonic()
        while (self._clients or time.monotonic() < self._until) and time.monotonic() < end:
            for number, event in self._poller.poll(0.1):
                self._handle(number, event)
            now = time.monotonic()
            while self._due and self._due[0] <= now < self._until:
                self._due.pop(0)
                self._open()
            if self._drip and now - dripped >= DRIP_SECONDS:
                dripped = now
                for one in self._clients.values():
                    with suppress(OSError):
                        one.socket.send(self._drip)
        lasting = [time.monotonic() - one.born for one in self._clients.values()]
        return {
            "opened": self.opened,
            "closed_seconds": max([self.longest_seconds, *lasting]),
            "left": len(self._clients),
        }

    def _open(self) -> None:
        client = _Client(self._address, next(self._sources))
        self._clients[client.socket.fileno()] = client
        self._poller.register(client.socket, select.EPOLLOUT | select.EPOLLIN)
        self.opened += 1

    def _handle(self, number: int, event: int) -> None:
        client = self._clients[number]
        closed = bool(event & (select.EPOLLHUP | select.EPOLLERR))
        try:
            if event & select.EPOLLOUT and not closed:
                client.socket.send(self._first)
                self._poller.modify(number, select.EPOLLIN)
            if event & select.EPOLLIN:
                heard = client.socket.recv(1 << 16)
                closed = not heard
                if self._is_served and heard.endswith((b"</html>", b"</html>\n")):
                    closed = time.monotonic() > self._until
                    client.socket.send(self._first)
        except BlockingIOError:
            pass
        except OSError:
            closed = True
        if closed:
            self.longest_seconds = max(self.longest_seconds, time.monotonic() - client.born)
            self._poller.unregister(number)
            del self._clients[number]
            client.socket.close()
            self._due.append(time.monotonic() + 1)


def _ask(address: tuple[str, int], source: str) -> dict[str, Any]:
    """Ask for each path in turn until standard input ends, and once afterwards; return counts and the longest
    wait of each.

    The first answers, which a cold collector prepares, are not counted; a line says when they have come.
    """
    until(lambda: not any(_answer(address, source, path) for path in PATHS), "all paths answer", every=0.1)
    print("warm", flush=True)
    done = threading.Event()

    def wait_for_end() -> None:
        sys.stdin.read()
        done.set()

    threading.Thread(target=wait_for_end, daemon=True).start()
    found: dict[str, Any] = {path: {"failed": 0, "seconds": [], "how": []} for path in PATHS}
    is_last = False
    while not is_last:
        is_last = done.is_set()
        for path, row in found.items():
            began = time.monotonic()
            how = _answer(address, source, path)
            row["failed"] += bool(how)
            row["how"] = sorted({*row["how"], *([how] if how else [])})[:3]
            row["seconds"].append(time.monotonic() - began)
            done.wait(PAUSE_SECONDS)
    for row in found.values():
        taken = row.pop("seconds")
        row |= {"asked": len(taken), "longest_seconds": max(taken, default=float("inf"))}
    return found


def _answer(address: tuple[str, int], source: str, path: str) -> str:
    """Return what is wrong with the answer of a path; empty when it is good."""
    connection = http.client.HTTPConnection(*address, timeout=PATIENCE_SECONDS, source_address=(source, 0))
    try:
        connection.request("GET", path, headers={"Authorization": f"Bearer {TOKEN}"})
        answer = connection.getresponse()
        answer.read()
    except (OSError, http.client.HTTPException) as error:
        return repr(error)
    finally:
        connection.close()
    return "" if answer.status == 200 else str(answer.status)


@contextmanager
def attacked_collector(folder: Path) -> Iterator[tuple[FarStack, Wire]]:
    """Yield a collector that another host reaches, whose pages ask for TOKEN. Skips without root."""
    (folder / "token").write_text(TOKEN)
    (folder / "token").chmod(0o600)
    settings = {
        "VEILLEUSE__HTTP__ADDRESS": f"0.0.0.0:{PORT}",
        "VEILLEUSE__HTTP__METRICS_TOKEN_FILE": str(folder / "token"),
    }
    with wire() as between, FarStack(folder, between, **settings) as stack:
        stack.serve()
        stack.wait_for(lambda: "web ready" in stack.log("serve"), "the pages answer")
        yield stack, between


def attack(
    between: Wire, kind: str, *, count: int = SOCKETS, addresses: int = 1, seconds: float = 0.0
) -> Became:
    """Attack from so many addresses; return what became of it, with what loopback and a neighbour got."""
    sources = [f"10.213.7.{number}" for number in range(10, 10 + addresses)]
    neighbour = "10.213.7.3"
    for one in (neighbour, *sources):
        between.add_far_address(one)
    program = [sys.executable, __file__]
    asking = [
        _start([*between.near_command(*program), "ask", "127.0.0.1", "127.0.0.1"]),
        _start([*between.far_command(*program), "ask", NEAR_ADDRESS, neighbour]),
    ]
    for process in asking:
        assert process.stdout is not None
        assert process.stdout.readline() == "warm\n"
    attacking = [
        *between.far_command(*program),
        "attack",
        NEAR_ADDRESS,
        kind,
        str(count),
        str(seconds),
        *sources,
    ]
    try:
        done = subprocess.run(
            attacking, capture_output=True, text=True, check=True, timeout=seconds + 2 * GIVE_UP_SECONDS
        )
    finally:
        got = [json.loads(process.communicate("")[0]) for process in asking]
    rows, whole = [row for one in got for row in one.values()], json.loads(done.stdout)
    return Became(
        kind,
        **whole,
        asked=sum(row["asked"] for row in rows),
        refused=sum(row["failed"] for row in rows),
        wait_seconds=max(row["longest_seconds"] for row in rows),
        how=tuple(sorted({one for row in rows for one in row["how"]})),
    )


def _start(command: list[str]) -> subprocess.Popen[str]:
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class Became(NamedTuple):
    """What became of an attack."""

    kind: str
    opened: int
    closed_seconds: float
    """Longest life of a connection."""
    left: int
    """Connections that the collector never closed."""
    asked: int
    refused: int
    wait_seconds: float
    """Longest wait of a client that finishes its requests."""
    how: tuple[str, ...]
    """How clients were refused."""

    def __str__(self) -> str:
        """Return one line."""
        end = f"{self.left} never closed" if self.left else f"closed in ≤ {self.closed_seconds:.1f} s"
        return (
            f"{self.opened:,} connections, {self.kind}: {end}; {self.refused} of {self.asked:,} other requests "
            f"refused, longest wait {self.wait_seconds * 1000:.0f} ms"
        )


def measure(folder: Path, kind: str = "POST without a body", **how: Any) -> str:
    """Run one attack on a new collector; return its line."""
    with attacked_collector(folder) as (_, between):
        return str(attack(between, kind, **how))


def main(arguments: list[str]) -> dict[str, Any]:
    """Run one side in this namespace."""
    what, host, *rest = arguments
    if what == "ask":
        return _ask((host, PORT), *rest)
    kind, count, seconds, *sources = rest
    return _Attack((host, PORT), kind, int(count), sources or [FAR_ADDRESS], float(seconds)).run()


if __name__ == "__main__":
    print(json.dumps(main(sys.argv[1:])))
