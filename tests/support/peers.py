# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The real programs that tests talk to: Debian packages, installed by `make test` (deploy/ci/peers.sh)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

# Program → the Debian package it comes from; deploy/ci/peers.sh installs the same list.
PACKAGES = {
    "certutil": "libnss3-tools",
    "chromium": "chromium",
    "dconf": "dconf-cli",
    "edid-decode": "edid-decode",
    "faketime": "faketime",
    "fiu-run": "fiu-utils",
    "fusioninventory-inventory": "fusioninventory-agent",
    "h2load": "nghttp2-client",
    "ip": "iproute2",
    "ipmi-dcmi": "freeipmi-tools",
    "ipmitool": "ipmitool",
    "iptables": "iptables",
    "mkfs.ext4": "e2fsprogs",
    "openssl": "openssl",
    "prometheus": "prometheus",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "promtool": "prometheus",
    "slowhttptest": "slowhttptest",
    "soffice": "libreoffice-calc-nogui",
    "sslscan": "sslscan",
    "strace": "strace",
    "systemd-analyze": "systemd",
    "upsd": "nut-server",
}


def peer(program: str) -> Path:
    """Path of the program; skips the test, with the package to install, when this machine lacks it.

    Under CI a skip is a failure (tests/conftest.py): a suite nobody ran is not green.
    """
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"needs {program}: apt-get install {PACKAGES.get(program, program)}")
    return Path(found)
