# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Run a fake management controller (BMC) that speaks IPMI 2.0 on loopback: pyghmi's, with DCMI power added.

The session layer (RMCP+, RAKP, encryption) is pyghmi's, as real tools expect it. A file gives the answer:
`WATTS active`, `WATTS inactive`, a completion code as `code c1`, or `silent`, which answers nothing. As a
program, `python bmc.py FILE PORT` prints a line when it listens.
"""

from __future__ import annotations

import importlib
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

NAME, SECRET = "reader", "watt-7:colon"
_GROUP_EXTENSION, _GET_POWER_READING, _DCMI = 0x2C, 0x02, 0xDC
_MEASURING = 0x40


class Bmc:
    """A controller that runs in its own process."""

    def __init__(self, port: int, file: Path) -> None:
        self.port = port
        self._file = file

    def says(self, text: str) -> None:
        """Set the answer from now on, in the words of the module's docstring."""
        self._file.write_text(text)


@contextmanager
def running(folder: Path, says: str = "214 active") -> Iterator[Bmc]:
    """Run a controller while the block runs; `says` is its first answer."""
    from tests.support.ports import free_port  # not in the program, which runs without this package

    file = folder / "bmc"
    file.write_text(says)
    port = free_port()
    command = [sys.executable, __file__, str(file), str(port)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            process.stdout.readline()
            yield Bmc(port, file)
        finally:
            process.kill()


def _answer(request: dict[str, Any], session: Any, text: str) -> bool:
    if (request["netfn"], request["command"]) != (_GROUP_EXTENSION, _GET_POWER_READING):
        return False
    first, _, second = text.partition(" ")
    if first == "code":
        session.send_ipmi_response(code=int(second, 16))
    elif first != "silent":
        state = _MEASURING if second == "active" else 0
        watts = int(first)
        # DCMI 1.5 table 6-16: current, minimum, maximum, average watts; time stamp; period in ms; state.
        packed = struct.pack("<BHHHHIIB", _DCMI, watts, 2, 468, 184, 1_700_000_000, 1_000, state)
        session.send_ipmi_response(data=list(packed))
    return True


def main() -> None:
    """Serve until the process is killed."""
    file = Path(sys.argv[1])
    port = int(sys.argv[2])
    server = importlib.import_module("pyghmi.ipmi.bmc").Bmc({NAME: SECRET}, port=port, address="127.0.0.1")
    usual = server.handle_raw_request

    def handle(request: dict[str, Any], session: Any) -> None:
        if not _answer(request, session, file.read_text()):
            usual(request, session)

    server.handle_raw_request = handle
    print("listens", flush=True)
    server.listen(timeout=1)


if __name__ == "__main__":
    main()
