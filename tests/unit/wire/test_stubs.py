# SPDX-FileCopyrightText: 2026 Métropole de Lyon and the Veilleuse developers
# SPDX-License-Identifier: EUPL-1.2
"""Test that the generated stubs match telemetry.proto, which finds a forgotten `make proto`."""

from __future__ import annotations

from pathlib import Path

from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet
from grpc_tools import protoc

from veilleuse.wire.v1 import telemetry_pb2 as pb

ROOT = Path(__file__).parents[3] / "proto"


def test_the_stubs_are_of_this_file(tmp_path):
    """Each message, field, enum and service has its number and type."""
    out = tmp_path / "wire.binpb"
    assert (
        protoc.main(["protoc", f"-I{ROOT}", f"--descriptor_set_out={out}", str(ROOT / pb.DESCRIPTOR.name)])
        == 0
    )
    (written,) = FileDescriptorSet.FromString(out.read_bytes()).file
    stubs = FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(stubs)
    for message in written.message_type:
        for field in message.field:
            field.ClearField("json_name")  # protoc adds it to a set, but not to stubs
    assert stubs == written, "make proto"
