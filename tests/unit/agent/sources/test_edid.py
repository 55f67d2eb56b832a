# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test the size of displays from their EDID: plausible or unknown, never an error."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.support.fakes.edids import make_edid
from tests.support.peers import peer
from veilleuse.agent.sources.edid import diagonal_inches, identity, is_edid, size_class
from veilleuse.wire.limits import DISPLAY_SIZES

EDIDS = Path(__file__).parents[3] / "fixtures" / "edid"
OFFICE = (EDIDS / "office_24.bin").read_bytes()


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("office_21_5", "under_22"),
        ("office_24", "22_to_27"),
        ("office_27", "over_27"),  # 26.97 inches are sold as 27
        ("no_timing", "22_to_27"),  # whole centimetres only
        ("copied_timing", "22_to_27"),  # 340 × 190 mm of another panel, 52 × 32 cm of this one
        ("television_aspect_timing", "over_27"),  # 122 × 69 cm; 160 × 90 "mm" is 16:9
        ("television_aspect", "unknown"),  # 160 × 90 "cm" is 16:9
        ("projector", "unknown"),  # 0 × 0
        ("aspect_code", "unknown"),  # EDID 1.4: one of the two is 0, the other a ratio
    ],
)
def test_size_classes(name, size):
    """Sizes follow the EDID standard; an aspect ratio, a copied timing and 0 are not sizes."""
    assert DISPLAY_SIZES[size_class((EDIDS / f"{name}.bin").read_bytes())] == size


def test_an_independent_decoder_reads_the_same():
    """edid-decode (Debian) reads the same sizes and finds no checksum error."""
    for file in sorted(EDIDS.glob("office_*.bin")):
        said = subprocess.run([peer("edid-decode"), file], capture_output=True, text=True, check=False).stdout
        found = re.search(r"\((\d+) mm x (\d+) mm\)", said)
        assert found, said
        inches = (int(found[1]) ** 2 + int(found[2]) ** 2) ** 0.5 / 25.4
        assert diagonal_inches(file.read_bytes()) == pytest.approx(inches)
        assert "Invalid checksum" not in said


@pytest.mark.parametrize("broken", [b"", OFFICE[:127], bytes(128), OFFICE[:100] + b"\x07" + OFFICE[101:]])
def test_what_is_no_edid_has_no_size(broken):
    """Empty, cut, blank and corrupt bytes give no size and no identity."""
    assert not is_edid(broken)
    assert diagonal_inches(broken) is None
    assert identity(broken) is None


def test_only_a_numbered_display_is_told_from_its_like():
    """A display with a serial number has the same identity on two cables; one without has none."""
    assert identity(OFFICE) == identity(OFFICE + bytes(128)) is not None
    assert identity(make_edid((53, 30), None, serial=1)) != identity(make_edid((53, 30), None, serial=2))
    for serial in (0, 0x01010101, 0xFFFFFFFF):
        assert identity(make_edid((53, 30), None, serial=serial)) is None


@given(st.binary(max_size=400) | st.binary(min_size=119, max_size=247).map(lambda b: _dressed(b)))
def test_any_bytes_are_borne(content):
    """Any bytes, also with a valid header and checksum, give a class and a plausible diagonal or None."""
    inches = diagonal_inches(content)
    assert inches is None or 5 <= inches <= 120
    assert 0 <= size_class(content) < len(DISPLAY_SIZES)
    assert (size_class(content) == 3) == (inches is None)


def _dressed(noise: bytes) -> bytes:
    base = OFFICE[:8] + noise[:119]
    return base + bytes([-sum(base) % 256]) + noise[119:]
