"""Turns the text of events into typed records, without a Python dictionary for each."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec

from trainprof.profiler.traces.events import MISSING

NOTHING = msgspec.Raw()
"""An argument that an event does not carry."""


class Arguments(msgspec.Struct, gc=False):
    """The arguments of an event that are used; an older name of each comes last.

    Here and in `Event` they stand in the order in which Kineto writes them: each is looked for from
    where the one before it was found.
    """

    external: int = msgspec.field(default=MISSING, name="External id")
    sizes: msgspec.Raw = msgspec.field(default=NOTHING, name="Input Dims")
    types: msgspec.Raw = msgspec.field(default=NOTHING, name="Input type")
    values: msgspec.Raw = msgspec.field(default=NOTHING, name="Concrete Inputs")
    device: int = MISSING
    stream: int = MISSING
    correlation: int = MISSING
    size: int = msgspec.field(default=MISSING, name="bytes")
    memory_device: int = msgspec.field(default=MISSING, name="Device Id")
    address: int = msgspec.field(default=MISSING, name="Addr")
    change: int = msgspec.field(default=0, name="Bytes")
    allocated: int = msgspec.field(default=MISSING, name="Total Allocated")
    reserved: int = msgspec.field(default=MISSING, name="Total Reserved")
    label: Any = msgspec.field(default=None, name="name")
    sent: int = msgspec.field(default=MISSING, name="In msg nelems")
    element: Any = msgspec.field(default=None, name="dtype")
    group_size: int = msgspec.field(default=MISSING, name="Group size")
    old_external: int = msgspec.field(default=MISSING, name="external id")
    old_sizes: msgspec.Raw = msgspec.field(default=NOTHING, name="Input dims")


class Event(msgspec.Struct, gc=False):
    """One entry of `traceEvents`; times in microseconds."""

    ph: str = ""
    cat: str | None = None
    name: str = ""
    pid: int | float | str = 0
    tid: int | float | str = 0
    ts: int | float = 0
    dur: int | float = 0
    args: Arguments | None = None


class ExactEvent(Event, gc=False):
    """With a time that a double would round: microseconds since 1970 with decimals."""

    ts: Decimal = Decimal(0)  # type: ignore[assignment]


BROKEN = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
"""What decoding raises on text that is no JSON, or holds another type than it should."""
_EVENT_FIELDS = msgspec.structs.fields(Event)[:-1]
_ARGUMENT_FIELDS = [one for one in msgspec.structs.fields(Arguments) if one.type is not Any]
_strict = msgspec.json.Decoder(list[Event], strict=False)
_exact = msgspec.json.Decoder(list[ExactEvent], strict=False)
_one = msgspec.json.Decoder(ExactEvent, strict=False)
_EPOCH = re.compile(rb'"ts"\s*:\s*"?\d{13,}\.\d')
_raw = msgspec.json.Decoder(list[msgspec.Raw])
_anything = msgspec.json.Decoder(dict[str, Any])


def has_exact_times(text: bytes) -> bool:
    """Whether times have more digits than a double holds."""
    return _EPOCH.search(text) is not None


def decode_events(text: bytes | memoryview, exact: bool = False) -> tuple[Sequence[Event], int]:
    """Events of a JSON array's inside, and how many could not be understood.

    Args:
        text: What stands between the array's brackets.
        exact: Of a file that `has_exact_times`.

    Raises:
        msgspec.DecodeError, UnicodeDecodeError, RecursionError: it is no JSON.
    """
    array = b"".join((b"[", text, b"]"))
    try:
        return (_exact if exact else _strict).decode(array), 0
    except (msgspec.ValidationError, UnicodeDecodeError):
        events = [_tolerant(one) for one in _raw.decode(array)]
        return [one for one in events if one is not None], events.count(None)


def objects_in(text: bytes | memoryview) -> bytes:
    """The inside of a JSON array without what in it is no object."""
    return b",".join(
        bytes(one) for one in _raw.decode(b"".join((b"[", text, b"]"))) if bytes(one)[:1] == b"{"
    )


def _tolerant(text: msgspec.Raw) -> Event | None:
    """An event in which something has another type than it should: that is left out."""
    if bytes(text)[:1] != b"{":
        return None
    try:
        return _one.decode(text)
    except BROKEN:
        pass
    try:
        found = _anything.decode(text)
    except BROKEN:
        return None
    event, arguments = Event(), Arguments()
    given = found.get("args")
    for field in _EVENT_FIELDS:
        _put(event, field, found)
    for field in _ARGUMENT_FIELDS if isinstance(given, dict) else ():
        _put(arguments, field, given)
    event.args = arguments
    return event


def _put(target: Any, field: Any, found: Any) -> None:
    value = found.get(field.encode_name)
    if value is None:
        return
    try:
        if field.type is msgspec.Raw:
            value = msgspec.Raw(msgspec.json.encode(value))
        else:
            value = msgspec.convert(value, field.type, strict=False)
    except (msgspec.ValidationError, OverflowError):
        return
    setattr(target, field.name, value)
