# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Start and end of each process: Ctrl-C gives exit code 130, an error gives one line, never a traceback."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from veilleuse.wire.interrupt import EXIT_INTERRUPTED, end_on_interrupt, raise_on_interrupt

EXIT_FAILED: Final = 1
EXIT_USAGE: Final = 2
_REMEDIES: Final = {
    **dict.fromkeys((errno.EACCES, errno.EPERM), "run the command as root or as the service's user"),
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), "free some space"),
    **dict.fromkeys((errno.EIO, errno.EROFS), "check the disk"),
    **dict.fromkeys((errno.EMFILE, errno.ENFILE), "raise the limit of open files"),
}
_MESSAGE_CHARACTERS: Final = 200
"""Longest quotation of an unforeseen error, which may contain a whole file."""


def finish(program: str, body: Callable[[], int], translate: Callable[[str], str] = str) -> int:
    """Run `body`, the whole work of a process, and return its exit code.

    Each error is one line on standard error. An error with an `exit_code` is foreseen: it states the fault,
    its place and the remedy. An unforeseen error is reported with its place in the code; Python's development
    mode shows the traceback too. `translate` turns English into the language of the locale.
    """
    ended_before = raise_on_interrupt()
    try:
        _prepare_streams()
        code = body()
        sys.stdout.flush()
        return code
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except BrokenPipeError:
        return 0  # `veilleuse … | head`: the reader has ended
    except Exception as error:
        # the outermost call of a process: docs/decisions/0011
        message, code = _describe(error)
        return say(program, translate(" ".join(message.split())), code)
    finally:
        if ended_before:
            end_on_interrupt()
        _drop_unwritten()


def lower_priority(nice: int) -> None:
    """Let other processes go first; nothing happens where a service manager forbids it.

    The units of deploy/systemd do: they allow no system call of systemd's group @resources.
    """
    with suppress(OSError):
        os.nice(nice)


def say(program: str, message: str, code: int) -> int:
    """Write one line on standard error and return the exit code."""
    with suppress(OSError):  # the terminal may be gone
        print(f"{program}: {' '.join(message.split())}", file=sys.stderr)
    return code


def call_at_input_end(then: Callable[[], None]) -> None:
    """Call `then` in another thread when standard input ends: our parent closed it, or is gone."""
    from threading import Thread  # not in a process that needs no threads

    def read_all() -> None:
        with suppress(OSError):  # closed already
            while os.read(0, 1024):
                pass
        then()

    Thread(target=read_all, daemon=True).start()


def _prepare_streams() -> None:
    """Replace a closed standard stream by the null device: else the next file would take its number."""
    sys.stdout = sys.stdout or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    sys.stderr = sys.stderr or os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")  # a terminal without é or × shows ?


def _drop_unwritten() -> None:
    """Discard unwritten output: the interpreter would retry at its end and print a traceback."""
    try:
        sys.stdout.flush()
    except OSError:
        with suppress(OSError):
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _describe(error: Exception) -> tuple[str, int]:
    """Return the message of an error for a person, and the exit code."""
    if isinstance(code := getattr(error, "exit_code", None), int):
        return str(error), code
    if isinstance(error, OSError):
        where = f"{error.filename}: " if error.filename else ""
        remedy = _REMEDIES.get(error.errno or 0, "")
        return f"{where}{error.strerror or error}" + (f"; {remedy}" if remedy else ""), EXIT_FAILED
    # bytes of the command line
    if isinstance(error, UnicodeEncodeError) and error.encoding == "utf-8":
        return f"{error.object[:_MESSAGE_CHARACTERS]!a} is not UTF-8: type or rename it in UTF-8", EXIT_USAGE
    if isinstance(error, MemoryError):
        return "there is not enough memory for this: ask for less at once", EXIT_FAILED
    return _describe_unforeseen(error), EXIT_FAILED


def _describe_unforeseen(error: Exception) -> str:
    """Describe an unforeseen error: its kind, its message, and the last place in our code."""
    import traceback  # imported only for an error, to save memory

    if sys.flags.dev_mode:
        traceback.print_exception(error)
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if f"{os.sep}veilleuse{os.sep}" in frame.filename]
    last = (ours or frames)[-1]
    place = f"{last.filename.rpartition(os.sep)[2]}:{last.lineno}"
    message = f"{type(error).__name__} at {place}: {str(error)[:_MESSAGE_CHARACTERS]}"
    return f"unforeseen {message}; tell the Veilleuse developers, with what PYTHONDEVMODE=1 shows beside it"
