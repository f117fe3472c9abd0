"""Reads what wandb keeps of an offline run: a log of LevelDB's form that holds wandb's own records.

Written by the format's description (https://github.com/google/leveldb/blob/main/doc/log_format.md,
with zlib's CRC-32 and a header of seven bytes): wandb 0.31 has no reader in Python any more.
"""

import json
import struct
import zlib
from dataclasses import dataclass, field

BLOCK, HEADER, BEGINNING = 32_768, 7, b":W&B\xe1\xbe\x00"
WHOLE, LAST = 1, 4


@dataclass
class Logged:
    """One run as it would be sent."""

    run: object = None
    config: dict = field(default_factory=dict)
    history: list = field(default_factory=list)
    summary: dict = field(default_factory=dict)
    metrics: dict = field(default_factory=dict)
    artifacts: list = field(default_factory=list)
    ended: bool = False


def logged(path):
    """The run of a `.wandb` file."""
    found = Logged()
    for record in _records(path.read_bytes()):
        kind = record.WhichOneof("record_type")
        if kind == "run":
            found.run = record.run
            found.config |= _values(record.run.config.update)
        elif kind == "config":
            found.config |= _values(record.config.update)
        elif kind == "history":
            found.history.append(_values(record.history.item))
        elif kind == "summary":
            found.summary |= _values(record.summary.update)
        elif kind == "metric":
            one = record.metric
            found.metrics[one.name or one.glob_name] = one.step_metric
        elif kind == "artifact":
            found.artifacts.append(record.artifact)
        elif kind == "exit":
            found.ended = True
    return found


def _values(items):
    return {item.key or "/".join(item.nested_key): json.loads(item.value_json) for item in items}


def _records(data):
    from wandb.proto import wandb_internal_pb2

    assert data[:HEADER] == BEGINNING
    at, parts = HEADER, b""
    while at < len(data):
        if BLOCK - at % BLOCK < HEADER:
            at += BLOCK - at % BLOCK
            continue
        check, length, kind = struct.unpack("<IHB", data[at : at + HEADER])
        body = data[at + HEADER : at + HEADER + length]
        assert zlib.crc32(bytes([kind]) + body) == check
        at, parts = at + HEADER + length, parts + body
        if kind in (WHOLE, LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            parts = b""
            yield record
