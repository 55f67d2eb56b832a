# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Fake the libraries of Windows that ctypes loads: each function is a Python function."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any, Final

import pytest

Libraries = dict[str, dict[str, Callable[..., Any]]]
"""Library → function → body."""
LAST_ERROR: Final = 1167


class Library:
    """Holds the functions of a DLL as attributes."""


def fake_libraries(monkeypatch: pytest.MonkeyPatch) -> Libraries:
    """Replace the libraries that ctypes loads with those in the result, which the test fills."""
    libraries: Libraries = {}

    def load(name: str, use_last_error: bool) -> Library:
        assert use_last_error
        if name not in libraries:
            raise OSError(f"no {name}")
        library = Library()
        for function, body in libraries[name].items():
            setattr(library, function, lambda *given, body=body: body(*given))
        return library

    monkeypatch.setattr(ctypes, "WinDLL", load, raising=False)
    monkeypatch.setattr(ctypes, "get_last_error", lambda: LAST_ERROR, raising=False)
    return libraries


def put(reference: Any, value: int, answer: int = 0) -> int:
    """Write the value through byref's reference and return the answer."""
    reference._obj.value = value
    return answer


def note(kept: list[Any], value: object, answer: int = 0) -> int:
    """Append the value and return the answer."""
    kept.append(value)
    return answer
