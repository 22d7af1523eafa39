"""Writes the first inputs of each fuzz target from the golden vectors: seeds.py VECTORS FOLDER."""

import json
import pathlib
import sys

vectors, folder = map(pathlib.Path, sys.argv[1:])
KINDS = {"experiment": 1, "control": 2, "task": 3, "profile": 4}


def write(target, name, data):
    place = folder / target
    place.mkdir(parents=True, exist_ok=True)
    (place / name).write_bytes(data)


def cbor_bytes(data):
    """A CBOR byte string of up to 64 KiB (RFC 8949, 3.1)."""
    size = len(data)
    if size < 24:
        head = bytes([0x40 | size])
    elif size < 256:
        head = bytes([0x58, size])
    else:
        head = b"\x59" + size.to_bytes(2, "big")
    return head + data


for case in json.loads((vectors / "objects.json").read_text())["cases"]:
    name, text = case["name"], case["json"].encode()
    write("json", name, text)
    write("object", name, text)
    if case["valid"]:
        kind, signature = bytes([KINDS[case["kind"]]]), bytes.fromhex(json.loads(text)["signature"])
        # A control event travels under its own type.
        payload = json.loads(text)
        message = payload["type"] if case["kind"] == "control" else case["kind"]
        write("legacy", name, json.dumps({"type": message, "payload": payload}).encode())
        write("wire", name, b"\x83" + kind + cbor_bytes(case["canonical"].encode()) + cbor_bytes(signature))

frames = json.loads((vectors / "frames.json").read_text())["frames"]
frames = [(frame["type"], bytes.fromhex(frame["frame_hex"])) for frame in frames]
for name, data in frames:
    write("frame", name, b"\0" + data)
    # The body without its header.
    write("legacy", name, data[4:])
write("frame", "all", b"\1" + b"".join(data for _, data in frames))
# An announcement: a kind, an id of 32 bytes and a size.
write("wire", "announcement", b"\x83\x01" + cbor_bytes(bytes(range(32))) + b"\x1a\x00\x02\x00\x00")
