#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
# All tests, in three parts: units, one process more than cores, for some of them wait; those that start services, three at a time;
# those at the machine's date. The others run at one fixed date (tests/support/clock.py).
# Usage: test.sh PYTHON [arguments of pytest]
set -uo pipefail
cd "$(dirname "$0")/../.."
python=$1
shift

worst=5 # none of the tests that were asked for is in any part
part() {
  "$python" -m pytest --part="$1" "${@:2}"
  case $? in
  0) [ "$worst" = 5 ] && worst=0 ;;
  5) ;;
  *) worst=1 ;;
  esac
}

part beside --numprocesses=$(($(nproc) < 8 ? $(nproc) + 1 : 8)) --dist=loadfile --no-loadscope-reorder "$@"
part services --numprocesses=3 --dist=loadfile --no-loadscope-reorder "$@"
FAKETIME=+0 part machine "$@"
[ $worst != 5 ] || echo "veilleuse: no test is named by: $*" >&2
# `make quick` begins at the newest commit that passed whole.
if [ $worst = 0 ] && [ $# = 0 ] && commit=$(git rev-parse HEAD 2>/dev/null) && [ -z "$(git status --porcelain)" ]; then
  printf '%s\n' "$commit" >.pytest_cache/passed_commit
fi
exit $worst
