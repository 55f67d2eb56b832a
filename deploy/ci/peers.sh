#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
# Install the Debian programs that the tests talk to; nothing happens when they are all here.
# Without root or without apt it says what is missing and goes on: the tests that need it are skipped, or
# fail under CI (tests/peers.py). No service is left running: only the programs are wanted.
set -euo pipefail

declare -A package_of=(
  [promtool]=prometheus
  [prometheus]=prometheus
  [prometheus-node-exporter]=prometheus-node-exporter
  [chromium]=chromium
  [systemd-analyze]=systemd
  [udevadm]=udev
  [fiu-run]=fiu-utils
  [faketime]=faketime
  [ip]=iproute2
  [iptables]=iptables
  [mkfs.ext4]=e2fsprogs
  [openssl]=openssl
  [sslscan]=sslscan
  [slowhttptest]=slowhttptest
  [h2load]=nghttp2-client
  [strace]=strace
)

missing=()
for program in "${!package_of[@]}"; do
  PATH=$PATH:/usr/sbin:/sbin command -v "$program" >/dev/null || missing+=("${package_of[$program]}")
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
for unit in prometheus prometheus-node-exporter; do
  case " ${missing[*]} " in
    *" $unit "*) ! command -v systemctl >/dev/null || systemctl --quiet disable "$unit" 2>/dev/null || true ;;
  esac
done
