#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
# Make an empty virtual environment, and on a bare Debian the package it needs for that.
# Usage: venv.sh FOLDER [PYTHON]; without PYTHON, the first of Debian's and the path's that is new enough.
set -euo pipefail
folder=$1
python=${2:-}

die() {
  echo "veilleuse: $*" >&2
  exit 1
}
new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

if [ -n "$python" ]; then
  new_enough "$python" || die "PYTHON=$python is not a Python 3.11 or later"
else
  for candidate in /usr/bin/python3 python3; do
    if new_enough "$candidate"; then
      python=$candidate
      break
    fi
  done
  [ -n "$python" ] || die "no Python 3.11 or later found: install one, or name it: make PYTHON=/path/to/python3 …"
fi

if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
  command -v apt-get >/dev/null || die "$python has no venv module: install it, or name another: make PYTHON=…"
  [ "$(id -u)" = 0 ] || die "$python has no venv module: run 'apt-get install python3-venv' as root, then try again"
  echo "veilleuse: installing Debian's python3-venv"
  export DEBIAN_FRONTEND=noninteractive
  apt-get update -qq -o DPkg::Lock::Timeout=300
  apt-get install -qq -y --no-install-recommends -o DPkg::Lock::Timeout=300 python3-venv >/dev/null
  "$python" -c 'import ensurepip, venv' || die "python3-venv does not serve $python: name Debian's, make PYTHON=/usr/bin/python3"
fi

"$python" -m venv --clear "$folder"
