# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""One conversation with an `upsd`: lines of text over TCP. Source: NUT, docs/net-protocol.txt (protocol 1.3).

Everything is bounded: one deadline for the whole conversation, the length of a line, the number of lines. Nothing of the other
side is believed: an answer that does not repeat the question is an error.
"""

from __future__ import annotations

import re
import socket
import time
from types import TracebackType
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    import ssl

DEFAULT_PORT: Final = 3493
"""IANA's, for NUT."""
LARGEST_LINE_BYTES: Final = 2_048
"""Four times the 512 bytes that upsd itself puts in a line."""
LARGEST_LIST_LINES: Final = 4_096
"""An ePDU of 48 outlets tells about 1,500 variables."""

_WORD: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_ESCAPED: Final = re.compile(r"\\(.)")
_UNQUOTABLE: Final = re.compile(r"[\x00-\x1f\x7f]")


class Refused(Exception):
    """The upsd answered ERR."""

    def __init__(self, word: str) -> None:
        """`word`: one of net-protocol.txt's list, e.g. DATA-STALE; or what stood there."""
        super().__init__(word)
        self.word = word


class NotUnderstood(Exception):
    """What came back is not an answer to what was asked."""


def quoted(word: str) -> str:
    """A word as the protocol wants it. Raises ValueError on one with control characters: it would be two commands."""
    if _UNQUOTABLE.search(word):
        raise ValueError("a control character in a word for upsd")
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def words_of(line: str) -> list[str]:
    """A line, taken apart: quotes and backslashes gone."""
    return [
        _ESCAPED.sub(r"\1", match[1]) if match[1] is not None else match[2] for match in _WORD.finditer(line)
    ]


class Conversation:
    """A connection to one upsd, with a deadline for all that is said. Raises OSError (TimeoutError too), Refused, NotUnderstood."""

    def __init__(self, host: str, port: int, timeout_seconds: float) -> None:
        self._end = time.monotonic() + timeout_seconds
        self._pending = b""
        self._socket: socket.socket = self._connected(host, port)

    def __enter__(self) -> Conversation:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def secure(self, context: ssl.SSLContext, host: str) -> None:
        """STARTTLS, then the handshake. Raises ssl.SSLError, an OSError, too."""
        if self.ask("STARTTLS")[:2] != ["OK", "STARTTLS"]:
            raise NotUnderstood("no OK to STARTTLS")
        if self._pending:  # said in clear, to be taken for something said under TLS
            raise NotUnderstood("more than an OK to STARTTLS")
        self._socket.settimeout(self._left_seconds())
        self._socket = context.wrap_socket(self._socket, server_hostname=host)

    def log_in(self, name: str, secret: str) -> None:
        """USERNAME and PASSWORD; not LOGIN, which tells the upsd that this machine hangs on the UPS."""
        for command, word in (("USERNAME", name), ("PASSWORD", secret)):
            if self.ask(command, word)[:1] != ["OK"]:
                raise NotUnderstood(f"no OK to {command}")

    def value(self, ups: str, variable: str) -> str:
        """GET VAR: one variable."""
        answer = self.ask("GET", "VAR", ups, variable)
        if answer[:3] != ["VAR", ups, variable] or len(answer) != 4:
            raise NotUnderstood(f"no value to GET VAR {variable}")
        return answer[3]

    def variables(self, ups: str) -> dict[str, str]:
        """LIST VAR: all variables of a UPS."""
        return {row[2]: row[3] for row in self._list("VAR", ups) if len(row) == 4 and row[1] == ups}

    def names(self) -> list[str]:
        """LIST UPS: what this upsd serves."""
        return [row[1] for row in self._list("UPS") if len(row) >= 2]

    def ask(self, command: str, *words: str) -> list[str]:
        """Say one line, hear one line. Raises Refused on ERR."""
        self._say(command, *words)
        return self._hear()

    def _list(self, kind: str, *words: str) -> list[list[str]]:
        if self.ask("LIST", kind, *words) != ["BEGIN", "LIST", kind, *words]:
            raise NotUnderstood(f"no list to LIST {kind}")
        rows: list[list[str]] = []
        for _ in range(LARGEST_LIST_LINES):
            row = self._hear()
            if row == ["END", "LIST", kind, *words]:
                return rows
            if row[:1] != [kind]:
                raise NotUnderstood(f"something else in the list of LIST {kind}")
            rows.append(row)
        raise NotUnderstood(f"a list of more than {LARGEST_LIST_LINES} lines")

    def _say(self, command: str, *words: str) -> None:
        line = " ".join(word if word.isalnum() else quoted(word) for word in (command, *words))
        self._socket.settimeout(self._left_seconds())
        self._socket.sendall(line.encode() + b"\n")

    def _hear(self) -> list[str]:
        while b"\n" not in self._pending:
            if len(self._pending) > LARGEST_LINE_BYTES:
                raise NotUnderstood(f"a line of more than {LARGEST_LINE_BYTES} bytes")
            self._socket.settimeout(self._left_seconds())
            more = self._socket.recv(4_096)
            if not more:
                raise ConnectionResetError("the connection was closed in the middle of an answer")
            self._pending += more
        line, _, self._pending = self._pending.partition(b"\n")
        if len(line) > LARGEST_LINE_BYTES:
            raise NotUnderstood(f"a line of more than {LARGEST_LINE_BYTES} bytes")
        words = words_of(line.decode("utf-8", "replace"))
        if words[:1] == ["ERR"]:
            raise Refused(words[1] if len(words) > 1 else "")
        return words

    def _connected(self, host: str, port: int) -> socket.socket:
        last: OSError = ConnectionError(f"{host} has no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            one = socket.socket(family, kind, protocol)
            try:
                one.settimeout(self._left_seconds())
                one.connect(address)
            except OSError as error:
                one.close()
                last = error
            else:
                return one
        try:
            raise last
        finally:
            del last  # it would hold itself until garbage is collected

    def _left_seconds(self) -> float:
        """> 0; raises TimeoutError when nothing is left."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("no time left for an answer")
        return left
