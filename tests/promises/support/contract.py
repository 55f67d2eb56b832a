# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""The released contract, decoded without product code: protobuf classes made from proto/released.binpb."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

IMAGE: Final = Path(__file__).parents[3] / "proto" / "released.binpb"
PACKAGE: Final = "veilleuse.wire.v1"
_POOL: Final = descriptor_pool.DescriptorPool()
for _file in descriptor_pb2.FileDescriptorSet.FromString(IMAGE.read_bytes()).file:
    _POOL.Add(_file)


def message(name: str) -> Any:
    """Return the class of a message of the contract, e.g. `message("Record")`."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"{PACKAGE}.{name}"))


Record: Final = message("Record")
PushRequest: Final = message("PushRequest")
PushResponse: Final = message("PushResponse")
HelloRequest: Final = message("HelloRequest")
HelloResponse: Final = message("HelloResponse")

STORED: Final = 1
EXPECTED_EARLIER: Final = 2
CONFLICT: Final = 3
REFUSED: Final = 4
"""Values of PushOutcome."""
