#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
# Install the Debian programs that the tests talk to; nothing happens when they are all here.
# With --install also those of tests/install, which packages are built, checked and installed with, and Zabbix.
# Without root or without apt it says what is missing and goes on: the tests that need it are skipped, or
# fail under CI (tests/support/peers.py). No service is left running: only the programs are wanted.
set -euo pipefail

declare -A package_of=(
  [/usr/lib/nagios/plugins/centreon_plugins.pl]=centreon-plugins
  [amtool]=prometheus-alertmanager
  [promtool]=prometheus
  [prometheus-alertmanager]=prometheus-alertmanager # its service stays off
  [prometheus]=prometheus
  [prometheus-node-exporter]=prometheus-node-exporter
  [chromium]=chromium
  [curl]=curl
  [systemd-analyze]=systemd
  [udevadm]=udev
  [fiu-run]=fiu-utils
  [dconf]=dconf-cli
  [edid-decode]=edid-decode
  [faketime]=faketime
  [ip]=iproute2
  [ipmi-dcmi]=freeipmi-tools
  [ipmitool]=ipmitool
  [iptables]=iptables
  [mkfs.ext4]=e2fsprogs
  [openssl]=openssl
  [sslscan]=sslscan
  [slowhttptest]=slowhttptest
  [h2load]=nghttp2-client
  [haproxy]=haproxy
  [squid]=squid-openssl # its service stays off, as haproxy's
  [fusioninventory-inventory]=fusioninventory-agent # writes an inventory of this machine to a file; its service stays off
  [soffice]=libreoffice-calc-nogui # 290 MB: what officers open our tables with
  [strace]=strace
  [upsd]=nut-server        # with its driver dummy-ups
  [victoria-metrics]=victoria-metrics
  [certutil]=libnss3-tools # the certificates of Debian's upsd live in an NSS database
)

if [ "${1:-}" = --install ]; then
  package_of+=(
    [apt-ftparchive]=apt-utils
    [dh]=debhelper
    [dpkg-buildpackage]=dpkg-dev
    [gpg]=gnupg
    [help2man]=help2man
    [lintian]=lintian
    [mmdebstrap]=mmdebstrap
    [msibuild]=msitools
    [msiinfo]=msitools
    [osslsigncode]=osslsigncode
    [piuparts]=piuparts
    [po2debconf]=po-debconf
    [systemd-nspawn]=systemd-container
    [/usr/share/keyrings/ubuntu-archive-keyring.gpg]=ubuntu-archive-keyring # mmdebstrap checks Ubuntu's signature with it
    [wine]=wine # with wine64, without its 32-bit half
    [wixl]=wixl
    [zabbix_server]=zabbix-server-pgsql
    [/usr/share/zabbix/api_jsonrpc.php]=zabbix-frontend-php
    [/usr/share/doc/php-pgsql]=php-pgsql
    [/usr/share/doc/postgresql]=postgresql
    [php]=php-cli
  )
fi

missing=()
for program in "${!package_of[@]}"; do
  [ -e "$program" ] || PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || missing+=("${package_of[$program]}")
done
# Libraries that a Python package opens: WeasyPrint's, for the PDF of a report.
declare -A package_of_library=(
  [libpango-1.0.so.0]=libpango-1.0-0
  [libpangoft2-1.0.so.0]=libpangoft2-1.0-0
  [libharfbuzz-subset.so.0]=libharfbuzz-subset0
)
libraries=$(PATH=$PATH:/usr/sbin:/sbin ldconfig -p 2>/dev/null || true)
for library in "${!package_of_library[@]}"; do
  [[ $libraries == *"$library"* ]] || missing+=("${package_of_library[$library]}")
done
[ ${#missing[@]} -gt 0 ] || exit 0
mapfile -t missing < <(printf '%s\n' "${missing[@]}" | sort -u)

if ! command -v apt-get >/dev/null; then
  echo "veilleuse: some tests need ${missing[*]} (Debian's names): install them to run those tests" >&2
  exit 0
fi
if [ "$(id -u)" != 0 ]; then
  echo "veilleuse: some tests need more: run 'apt-get install ${missing[*]}' as root to run those too" >&2
  exit 0
fi

# Debian starts what it installs, unless this file forbids it.
policy=/usr/sbin/policy-rc.d
if [ ! -e "$policy" ]; then
  trap 'rm -f "$policy"' EXIT
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
fi

echo "veilleuse: installing Debian's ${missing[*]} for the tests"
export DEBIAN_FRONTEND=noninteractive
log=$(mktemp)
if ! {
  apt-get update -qq -o DPkg::Lock::Timeout=300 &&
    apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 "${missing[@]}"
} >"$log" 2>&1; then
  cat "$log" >&2
  rm -f "$log"
  echo "veilleuse: could not install ${missing[*]}" >&2
  exit 1
fi
rm -f "$log"

# Nor shall the next boot start them.
nut="nut.target nut-server nut-monitor nut-driver.target nut-driver-enumerator.path nut-driver-enumerator.service"
declare -A units_of=([prometheus]=prometheus [prometheus-node-exporter]=prometheus-node-exporter [nut-server]=$nut [ipmitool]=ipmievd [fusioninventory-agent]=fusioninventory-agent [haproxy]=haproxy [squid-openssl]=squid
  [victoria-metrics]=victoria-metrics [zabbix-server-pgsql]=zabbix-server [zabbix-frontend-php]=apache2 [postgresql]=postgresql)
for package in "${!units_of[@]}"; do
  case " ${missing[*]} " in
    # shellcheck disable=SC2086 # several units
    *" $package "*) ! command -v systemctl >/dev/null || systemctl --quiet disable ${units_of[$package]} 2>/dev/null || true ;;
  esac
done
