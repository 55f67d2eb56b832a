#!/usr/bin/env bash
# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
# All tests, in two parts: those that leave each other alone on all cores at once, then those that start services or prove a
# promise, one by one. Usage: test.sh PYTHON [arguments of pytest]
set -uo pipefail
cd "$(dirname "$0")/../.."
python=$1
shift

"$python" -m pytest --part=beside --numprocesses=logical --maxprocesses=8 --dist=loadfile "$@"
beside=$?
"$python" -m pytest --part=alone "$@"
alone=$?

# 5: none of the tests that were asked for is in that part.
case "$beside $alone" in
"0 0" | "0 5" | "5 0") exit 0 ;;
"5 5") exit 5 ;;
esac
exit 1
