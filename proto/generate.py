# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Regenerate the stubs beside their source: `make proto`.

grpcio-tools is pinned in pyproject.toml (extra `dev`) to the floor of the runtimes, because generated code
refuses to run on a protobuf or grpcio older than the one that made it: a newer generator would raise
every agent's floor without anyone deciding it (tests/architecture/test_layout.py holds the two together).
"""

from __future__ import annotations

import sys
from pathlib import Path

from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent


def main() -> int:
    """Run protoc on every .proto of the tree; return its exit code."""
    sources = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("veilleuse/**/*.proto"))
    outputs = [f"--{plugin}_out={ROOT}" for plugin in ("python", "pyi", "grpc_python")]
    return int(protoc.main(["protoc", f"-I{ROOT}", *outputs, *sources]))


if __name__ == "__main__":
    sys.exit(main())
