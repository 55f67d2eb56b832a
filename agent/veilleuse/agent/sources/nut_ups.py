# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Reads a UPS or ePDU from a NUT server (`upsd`).

Source of the names and units: NUT, docs/nut-names.txt; docs/sources.md. The value is the power that the UPS
gives to its load. It is the first that exists of: `ups.realpower` (W); `output.realpower` (W, all phases);
the sum of `output.L1…L3.realpower` (W); `ups.load` (%) × `ups.realpower.nominal` (W); `ups.load` ×
`ups.power.nominal` (VA) × a declared power factor. A UPS on battery still feeds its load, so `ups.status`
does not matter.
"""

from __future__ import annotations

import re
import socket
import time
from collections.abc import Iterable, Mapping
from decimal import Decimal
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, ClassVar, Final, NamedTuple

from veilleuse.agent.errors import ReadFailed, SourceUnavailable
from veilleuse.agent.model import Point, PowerGauge, Reading
from veilleuse.agent.ports import MeterSpec, SourceContext
from veilleuse.agent.sources.meters_file import read_credentials
from veilleuse.agent.sources.readings import address_of, explain_network_error, meter_of, point_of
from veilleuse.wire.files import read_authorities
from veilleuse.wire.units import MILLIWATTS_PER_WATT
from veilleuse.wire.vocabulary import PointKind

if TYPE_CHECKING:
    import ssl


DEFAULT_PORT: Final = 3493
"""Port registered at IANA for NUT."""
LARGEST_LINE_BYTES: Final = 2_048
"""Four times the 512 bytes that upsd itself writes in a line."""
LARGEST_LIST_LINES: Final = 4_096
"""An ePDU of 48 outlets has about 1,500 variables."""

_WORD: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_ESCAPED: Final = re.compile(r"\\(.)")
_UNQUOTABLE: Final = re.compile(r"[\x00-\x1f\x7f]")


class NutRefusal(Exception):
    """The upsd answered ERR."""

    def __init__(self, word: str) -> None:
        """Take the `word` of net-protocol.txt's list, e.g. DATA-STALE, or the unknown word that was sent."""
        super().__init__(word)
        self.word = word


class NutProtocolError(Exception):
    """The answer does not match the request."""


def quote_word(word: str) -> str:
    """Quote a word for the protocol.

    Raises ValueError on control characters: the word would become two commands.
    """
    if _UNQUOTABLE.search(word):
        raise ValueError("a control character in a word for upsd")
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"') + '"'


def words_of(line: str) -> list[str]:
    """Split a line into words, without quotes and backslashes."""
    return [
        _ESCAPED.sub(r"\1", match[1]) if match[1] is not None else match[2] for match in _WORD.finditer(line)
    ]


class NutConnection:
    """A connection to one upsd, with one deadline for the whole exchange.

    Raises OSError (also TimeoutError), NutRefusal, NutProtocolError.
    """

    def __init__(self, host: str, port: int, timeout_seconds: float) -> None:
        self._end = time.monotonic() + timeout_seconds
        self._pending = b""
        self._socket: socket.socket = self._connect(host, port)

    def __enter__(self) -> NutConnection:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()

    def secure(self, context: ssl.SSLContext, host: str) -> None:
        """Send STARTTLS, then do the handshake. Also raises ssl.SSLError, an OSError."""
        if self.ask("STARTTLS")[:2] != ["OK", "STARTTLS"]:
            raise NutProtocolError("no OK to STARTTLS")
        if self._pending:  # sent in clear, so that it would be taken for a message under TLS
            raise NutProtocolError("more than an OK to STARTTLS")
        self._socket.settimeout(self._left_seconds())
        self._socket = context.wrap_socket(self._socket, server_hostname=host)

    def log_in(self, name: str, secret: str) -> None:
        """Send USERNAME and PASSWORD, but not LOGIN: it tells the upsd that the UPS feeds this machine."""
        for command, word in (("USERNAME", name), ("PASSWORD", secret)):
            if self.ask(command, word)[:1] != ["OK"]:
                raise NutProtocolError(f"no OK to {command}")

    def value(self, ups: str, variable: str) -> str:
        """Return one variable, by GET VAR."""
        answer = self.ask("GET", "VAR", ups, variable)
        if answer[:3] != ["VAR", ups, variable] or len(answer) != 4:
            raise NutProtocolError(f"no value to GET VAR {variable}")
        return answer[3]

    def variables(self, ups: str) -> dict[str, str]:
        """Return all variables of a UPS, by LIST VAR."""
        return {row[2]: row[3] for row in self._list("VAR", ups) if len(row) == 4 and row[1] == ups}

    def names(self) -> list[str]:
        """Return the names of the UPSs of this upsd, by LIST UPS."""
        return [row[1] for row in self._list("UPS") if len(row) >= 2]

    def ask(self, command: str, *words: str) -> list[str]:
        """Send one line, return one line. Raises NutRefusal on ERR."""
        self._send_line(command, *words)
        return self._receive_line()

    def _list(self, kind: str, *words: str) -> list[list[str]]:
        if self.ask("LIST", kind, *words) != ["BEGIN", "LIST", kind, *words]:
            raise NutProtocolError(f"no list to LIST {kind}")
        rows: list[list[str]] = []
        for _ in range(LARGEST_LIST_LINES):
            row = self._receive_line()
            if row == ["END", "LIST", kind, *words]:
                return rows
            if row[:1] != [kind]:
                raise NutProtocolError(f"something else in the list of LIST {kind}")
            rows.append(row)
        raise NutProtocolError(f"a list of more than {LARGEST_LIST_LINES} lines")

    def _send_line(self, command: str, *words: str) -> None:
        line = " ".join(word if word.isalnum() else quote_word(word) for word in (command, *words))
        self._socket.settimeout(self._left_seconds())
        self._socket.sendall(line.encode() + b"\n")

    def _receive_line(self) -> list[str]:
        while b"\n" not in self._pending:
            if len(self._pending) > LARGEST_LINE_BYTES:
                raise NutProtocolError(f"a line of more than {LARGEST_LINE_BYTES} bytes")
            self._socket.settimeout(self._left_seconds())
            more = self._socket.recv(4_096)
            if not more:
                raise ConnectionResetError("the connection was closed in the middle of an answer")
            self._pending += more
        line, _, self._pending = self._pending.partition(b"\n")
        if len(line) > LARGEST_LINE_BYTES:
            raise NutProtocolError(f"a line of more than {LARGEST_LINE_BYTES} bytes")
        words = words_of(line.decode("utf-8", "replace"))
        if words[:1] == ["ERR"]:
            raise NutRefusal(words[1] if len(words) > 1 else "")
        return words

    def _connect(self, host: str, port: int) -> socket.socket:
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
            del last  # the exception would keep itself alive until garbage collection

    def _left_seconds(self) -> float:
        """Return the time left, above 0 s. Raises TimeoutError when nothing is left."""
        left = self._end - time.monotonic()
        if left <= 0:
            raise TimeoutError("no time left for an answer")
        return left


_NUMBER: Final = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,9})?")
"""Number format of net-protocol.txt: decimal, a dot, no exponent, no thousands separator."""
_PHASES: Final = ("L1", "L2", "L3")
_PERCENT: Final = 100
_LARGEST_LOAD_PERCENT: Final = 200
"""Largest load of a lasting overload; a driver that does not know the load writes 65535."""
_NOTHING_YET: Final = "WAIT"
"""upsd's state for a driver that has just started.

The real power would be missing, and a worse variable chosen.
"""
_LOOPBACK: Final = ("127.0.0.1", "::1", "localhost")
_DENIED: Final = frozenset(
    {"ACCESS-DENIED", "USERNAME-REQUIRED", "PASSWORD-REQUIRED", "INVALID-USERNAME", "INVALID-PASSWORD"}
)
_NO_TLS: Final = frozenset({"FEATURE-NOT-SUPPORTED", "FEATURE-NOT-CONFIGURED"})
_REMEDIES: Final = {
    "DATA-STALE": "its driver gets no data from the device: look at the cable and at the driver's log",
    "DRIVER-NOT-CONNECTED": "start its driver on the NUT server: upsdrvctl start,"
    " or systemctl start nut-driver.target",
    "VAR-NOT-SUPPORTED": "its driver no longer has this variable: upsc lists its variables",
    "UNKNOWN-UPS": "upsc -l on the NUT server lists the names",
}


class _Plan(NamedTuple):
    """Variables and factor from which the watts are computed."""

    kind: PointKind
    sum_of: tuple[str, ...] = ()
    """Variables in watts that are summed."""
    nominal: str = ""
    """Otherwise the variable of which `ups.load` is the percentage."""
    power_factor_percent: int = _PERCENT
    """Factor that converts a nominal power in volt-amperes to watts."""


class NutUps:
    """`ports.Source`: one gauge, the power that a UPS or one of its outlets gives."""

    name = "nut_ups"
    OPTIONS: ClassVar[Mapping[str, type]] = {
        "ups": str,
        "outlet": int,
        "side": str,
        "power_factor_percent": int,
        "tls": bool,
        "tls_verify": bool,
        "tls_ca_file": str,
    }
    """ups: its name on the NUT server, needed when there are several. outlet: 0 = all. side: output (default)
    or input.
    """

    def __init__(self, context: SourceContext) -> None:
        self._context = context
        self._ups = ""
        self._plan: _Plan | None = None
        self._point: Point | None = None

    def open(self) -> tuple[Point, ...]:
        """Ask the server for the UPS's variables.

        Raises SourceUnavailable, or ReadFailed when the server does not answer now.
        """
        meter = _check_options(meter_of(self._context, self.name))
        try:
            with _open_connection(meter) as upsd:
                self._ups = _choose_ups(upsd, str(meter.options.get("ups", "")))
                variables = upsd.variables(self._ups)
        except (NutRefusal, NutProtocolError, OSError, ValueError) as error:
            raise _open_error(meter, error) from error
        if variables.get("ups.status") == _NOTHING_YET:
            raise ReadFailed(f"{meter.meter} ({meter.address}): the driver of {self._ups} has no values yet")
        self._plan = _plan(meter, self._ups, variables)
        self._point = point_of(self._plan.kind, meter)
        return (self._point,)

    def read(self) -> tuple[Reading, ...]:
        """Return one gauge.

        Raises ReadFailed when the value is stale, missing, no number, negative or above the meter's ceiling.
        """
        meter, plan, point = self._context.meter, self._plan, self._point
        if meter is None or plan is None or point is None:
            raise ReadFailed("the UPS is not open")
        names = plan.sum_of or ("ups.load", plan.nominal)
        try:
            with _open_connection(meter) as upsd:
                values = {name: _number(name, upsd.value(self._ups, name)) for name in names}
        except (NutRefusal, NutProtocolError, OSError, ValueError) as error:
            raise _read_error(meter, error) from error
        except SourceUnavailable as error:  # the credentials were removed
            raise ReadFailed(str(error)) from error
        return (PowerGauge(point, _milliwatts(meter, plan, values)),)

    def close(self) -> None:
        """Do nothing: each read opens its own connection, so that no half-open connection is trusted."""


def _check_options(meter: MeterSpec) -> MeterSpec:
    """Check the options. Raises SourceUnavailable on invalid ones."""
    if meter.options.get("side", "output") not in ("output", "input"):
        raise SourceUnavailable(
            "no_device", f"{meter.meter}: side is output or input", "correct side in meters.toml"
        )
    if not 1 <= int(meter.options.get("power_factor_percent", _PERCENT)) <= _PERCENT:
        raise SourceUnavailable(
            "no_device",
            f"{meter.meter}: power_factor_percent is 1 to 100",
            "correct power_factor_percent in meters.toml",
        )
    address_of(meter, DEFAULT_PORT)
    return meter


# ------------------------------------------------------------------------------------- the server


def _open_connection(meter: MeterSpec) -> NutConnection:
    """Open a connection, with TLS and log-in as the meter's options say."""
    host, port = address_of(meter, DEFAULT_PORT)
    credentials = read_credentials(meter.credentials_file) if meter.credentials_file else None
    tls = bool(meter.options.get("tls", False))
    if credentials and not tls and host not in _LOOPBACK:
        raise SourceUnavailable(
            "no_permission",
            f"{meter.meter}: its password would cross the network in clear",
            "set tls = true, or take credentials_file away: reading needs none with NUT's defaults",
        )
    context = _tls_context(meter) if tls else None
    upsd = NutConnection(host, port, meter.timeout_seconds)
    try:
        if context is not None:
            upsd.secure(context, host)
        if credentials:
            upsd.log_in(*credentials)
    except BaseException:
        upsd.__exit__(None, None, None)
        raise
    return upsd


def _tls_context(meter: MeterSpec) -> ssl.SSLContext:
    import ssl  # not in the resident; here only when it is asked for

    file = str(meter.options.get("tls_ca_file", ""))
    try:
        context = ssl.create_default_context(cadata=read_authorities(Path(file)) if file else None)
    except OSError as error:
        raise SourceUnavailable(
            "no_permission",
            f"{meter.meter}: {file} cannot be read: {error.strerror or error}",
            "name a PEM file of its authority",
        ) from error
    if not meter.options.get("tls_verify", True):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


def _choose_ups(upsd: NutConnection, ups: str) -> str:
    """Return the UPS that is named, or the only one."""
    names = upsd.names()
    if ups in names or (not ups and len(names) == 1):
        return ups or names[0]
    known = ", ".join(sorted(names)[:20]) or "none"
    reason = f"the NUT server has no UPS named {ups}" if ups else f"the NUT server has {len(names)} UPS"
    raise SourceUnavailable("no_device", f"{reason} (it has: {known})", "set ups to one of them")


# ---------------------------------------------------------------------------------------- the watts


def _plan(meter: MeterSpec, ups: str, variables: Mapping[str, str]) -> _Plan:
    """Choose the best way to compute the watts. Raises SourceUnavailable when there is none."""
    is_pdu = variables.get("device.type") == "pdu"
    kind = PointKind.PDU if is_pdu else PointKind.UPS
    if "outlet" in meter.options:
        return _outlet_plan(kind, ups, int(meter.options["outlet"]), variables)
    if meter.options.get("side") == "input":
        ways = [("input.realpower",), _phases("input")]
    elif is_pdu:  # all power that enters an ePDU leaves it; its drivers report the input
        ways = [("ups.realpower",), ("input.realpower",), _phases("input"), ("outlet.realpower",)]
    else:
        ways = [("ups.realpower",), ("output.realpower",), _phases("output")]
    for way in ways:
        if all(name in variables for name in way):
            return _Plan(kind, way)
    if meter.options.get("side") != "input" and "ups.load" in variables:
        if "ups.realpower.nominal" in variables:
            return _Plan(kind, nominal="ups.realpower.nominal")
        if "ups.power.nominal" in variables and "power_factor_percent" in meter.options:
            factor = int(meter.options["power_factor_percent"])
            return _Plan(kind, nominal="ups.power.nominal", power_factor_percent=factor)
    raise _no_watts(ups, [way[0] for way in ways], variables)


def _phases(domain: str) -> tuple[str, ...]:
    return tuple(f"{domain}.{phase}.realpower" for phase in _PHASES)


def _outlet_plan(kind: PointKind, ups: str, outlet: int, variables: Mapping[str, str]) -> _Plan:
    """Choose the variable of an outlet. nut-names.txt: `outlet.0` is `outlet`, the whole set."""
    names = [f"outlet.{outlet}.realpower", *(["outlet.realpower"] if outlet == 0 else [])]
    for name in names:
        if name in variables:
            return _Plan(kind, (name,))
    raise _no_watts(ups, names, variables)


def _no_watts(ups: str, missing: Iterable[str], variables: Mapping[str, str]) -> SourceUnavailable:
    remedy = "upsc lists its variables; measure it in another way"
    if "ups.load" in variables and "ups.power.nominal" in variables:
        remedy = (
            "its load is known in % of volt-amperes:"
            " set power_factor_percent, if you know it, or measure it in another way"
        )
    return SourceUnavailable(
        "no_device", f"the UPS {ups} reports no power (it has no {', no '.join(missing)})", remedy
    )


def _number(name: str, text: str) -> Decimal:
    """Parse a number. Raises ValueError when the protocol does not allow its format, or it is negative."""
    if not _NUMBER.fullmatch(text):
        raise ValueError(f"{name} is not a number: {text[:40]!r}")
    value = Decimal(text)
    if value < 0:
        raise ValueError(f"{name} is negative: {text}")
    return value


def _milliwatts(meter: MeterSpec, plan: _Plan, values: Mapping[str, Decimal]) -> int:
    """Return milliwatts, from 0 to the meter's ceiling. Raises ReadFailed."""
    if plan.sum_of:
        watts = sum((values[name] for name in plan.sum_of), Decimal(0))
    else:
        load = values["ups.load"]
        if load > _LARGEST_LOAD_PERCENT:
            raise ReadFailed(f"{meter.meter}: ups.load is {load} %")
        watts = values[plan.nominal] * load * plan.power_factor_percent / (_PERCENT * _PERCENT)
    if watts > Decimal(meter.ceiling_watts):
        raise ReadFailed(
            f"{meter.meter}: {watts:f} W is above its ceiling of {meter.ceiling_watts:g} W;"
            " raise ceiling_watts if it is true"
        )
    return round(watts * MILLIWATTS_PER_WATT)


# ------------------------------------------------------------------------------------------ the errors


def _read_error(meter: MeterSpec, error: Exception) -> ReadFailed:
    """Return the error of a read: what, where, what to do."""
    where = f"{meter.meter} ({meter.address})"
    match error:
        case NutRefusal(word=word):
            remedy = _REMEDIES.get(word, "see the log of upsd")
            return ReadFailed(f"{where}: upsd answered {word or 'an error'}; {remedy}")
        case NutProtocolError() | ValueError():
            return ReadFailed(f"{where}: {error}")
        case TimeoutError():
            return ReadFailed(
                f"{where}: no answer within {meter.timeout_seconds:g} s; is upsd up, is the port open?"
            )
        case ConnectionRefusedError():
            return ReadFailed(f"{where}: {error.strerror}; is upsd up, does it LISTEN on this address?")
        case OSError():
            return ReadFailed(f"{where}: {explain_network_error(error)}")
    return ReadFailed(f"{where}: {error}; see the log of upsd")


def _open_error(meter: MeterSpec, error: Exception) -> SourceUnavailable | ReadFailed:
    """Return the error of `open`: unavailable when somebody must change something, else failed."""
    where = f"{meter.meter} ({meter.address})"
    if isinstance(error, NutRefusal) and error.word in _DENIED:
        return SourceUnavailable(
            "no_permission",
            f"{where}: upsd answered {error.word}",
            "check credentials_file and upsd.users, or the server's access rules",
        )
    if isinstance(error, NutRefusal) and error.word in _NO_TLS:
        return SourceUnavailable(
            "no_permission",
            f"{where}: upsd offers no TLS ({error.word})",
            "set CERTFILE in upsd.conf, or tls = false",
        )
    if type(error).__name__ == "SSLCertVerificationError":  # ssl is not imported only for this name
        return SourceUnavailable(
            "no_permission",
            f"{where}: its certificate is not trusted: {error}",
            "name its authority in tls_ca_file, and the server as its certificate does",
        )
    return _read_error(meter, error)
