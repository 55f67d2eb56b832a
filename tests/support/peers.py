# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Find the real programs that tests use: Debian packages that `make test` installs (deploy/ci/peers.sh)."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

# Program → its Debian package; deploy/ci/peers.sh installs the same list; with --install, for tests/install.
PACKAGES = {
    "/usr/lib/nagios/plugins/centreon_plugins.pl": "centreon-plugins",
    "certutil": "libnss3-tools",
    "chromium": "chromium",
    "curl": "curl",
    "dconf": "dconf-cli",
    "dh": "debhelper",
    "edid-decode": "edid-decode",
    "faketime": "faketime",
    "fiu-run": "fiu-utils",
    "fusioninventory-inventory": "fusioninventory-agent",
    "gpg": "gnupg",
    "h2load": "nghttp2-client",
    "haproxy": "haproxy",
    "ip": "iproute2",
    "ipmi-dcmi": "freeipmi-tools",
    "ipmitool": "ipmitool",
    "iptables": "iptables",
    "lintian": "lintian",
    "mkfs.ext4": "e2fsprogs",
    "mmdebstrap": "mmdebstrap",
    "openssl": "openssl",
    "piuparts": "piuparts",
    "prometheus": "prometheus",
    "prometheus-node-exporter": "prometheus-node-exporter",
    "php": "php-cli",
    "promtool": "prometheus",
    "psql": "postgresql",
    "slowhttptest": "slowhttptest",
    "soffice": "libreoffice-calc-nogui",
    "squid": "squid-openssl",
    "sslscan": "sslscan",
    "strace": "strace",
    "systemd-analyze": "systemd",
    "systemd-nspawn": "systemd-container",
    "upsd": "nut-server",
    "victoria-metrics": "victoria-metrics",
    "zabbix_server": "zabbix-server-pgsql",
}


def peer(program: str) -> Path:
    """Return the program's path; skip the test and name the package to install if this machine lacks it.

    Under CI a skipped test fails (tests/conftest.py), because tests that did not run prove nothing.
    """
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    if found is None:
        pytest.skip(f"needs {program}: apt-get install {PACKAGES.get(program, program)}")
    return Path(found)
