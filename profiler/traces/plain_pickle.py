"""Reads a pickle that holds plain containers, numbers and text, and nothing else.

Python's own unpickler calls whatever a pickle names, and sets aside as much memory as one claims to
need. This one knows the opcodes that plain data needs, refuses all others, and makes no object that
the file has no byte for: no class, no call, no persistent id, keys that are text or whole numbers.

The opcodes: https://github.com/python/cpython/blob/main/Lib/pickletools.py
"""

from __future__ import annotations

import gc
import struct
from collections.abc import Callable
from typing import Any

from trainprof.errors import TrainprofError

MOST_CONTAINERS = 8_000_000
"""Lists, dictionaries and tuples, of some 250 bytes each: 2 GB. As many may be referred to."""
MOST_DEPTH = 100_000
"""Containers that are begun and not ended; plain data has some ten."""
CALLS = {
    **{ord("c"): "GLOBAL", 0x93: "STACK_GLOBAL", ord("R"): "REDUCE", ord("b"): "BUILD"},
    **{ord("i"): "INST", ord("o"): "OBJ", 0x81: "NEWOBJ", 0x92: "NEWOBJ_EX"},
    **{ord("P"): "PERSID", ord("Q"): "BINPERSID", 0x82: "EXT1", 0x83: "EXT2", 0x84: "EXT4"},
}
"""Opcodes that name classes and functions, or call them."""


class PickleError(TrainprofError):
    """It is no pickle, or none of plain data; the text says why, as a part of a sentence."""


def load_plain(data: bytes) -> Any:
    """What a pickle of protocol 2 to 5 holds.

    Args:
        data: The whole pickle.

    Returns:
        Lists, tuples, dictionaries, text, bytes, numbers, booleans and None. What stands in several
        places is one object, and a list may hold itself.

    Raises:
        PickleError: it holds anything else, is damaged, or has more than `MOST_CONTAINERS`.
    """
    collecting = gc.isenabled()
    gc.disable()  # there is much of it, and all of it stays
    reader = _Reader(data)
    try:
        return reader.load()
    except (IndexError, KeyError, TypeError, ValueError, AttributeError, struct.error):
        raise PickleError(f"it is damaged at byte {min(reader.at, len(data)):,}") from None
    finally:
        if collecting:
            gc.enable()


class _Reader:
    __slots__ = ("at", "containers", "data", "marks", "memo", "stack")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0
        self.stack: list[Any] = []
        self.marks: list[int] = []
        self.memo: dict[int, Any] = {}
        self.containers = 0

    def load(self) -> Any:
        data, opcodes = self.data, OPCODES
        while True:
            code = data[self.at]
            self.at += 1
            act = opcodes.get(code)
            if act is None:
                break
            act(self)
        if code == STOP:
            return self.stack.pop()
        if code in CALLS:
            raise PickleError(f"it is no plain data, but names code ({CALLS[code]})")
        raise PickleError(f"its opcode {code:#04x} belongs to no plain data")

    def take(self, count: int) -> bytes:
        found = self.data[self.at : self.at + count]
        if len(found) != count:
            raise IndexError
        self.at += count
        return found

    def skip(self, count: int) -> None:
        self.at += count

    def counted(self, width: int) -> bytes:
        return self.take(int.from_bytes(self.take(width), "little"))

    def whole(self, width: int, signed: bool = False) -> None:
        self.stack.append(int.from_bytes(self.take(width), "little", signed=signed))

    def long1(self) -> None:
        self.stack.append(int.from_bytes(self.counted(1), "little", signed=True))

    def double(self) -> None:
        self.stack.append(struct.unpack(">d", self.take(8))[0])

    def words(self, width: int) -> None:
        self.stack.append(self.counted(width).decode("utf-8", "surrogatepass"))

    def plain_bytes(self, width: int) -> None:
        self.stack.append(self.counted(width))

    def since_mark(self) -> list[Any]:
        mark = self.marks.pop()
        found = self.stack[mark:]
        del self.stack[mark:]
        return found

    def mark(self) -> None:
        self.marks.append(len(self.stack))
        if len(self.marks) > MOST_DEPTH:
            raise PickleError(f"it is nested more than {MOST_DEPTH:,} deep")

    def keep(self, container: Any) -> None:
        self.containers += 1
        if self.containers > MOST_CONTAINERS:
            raise PickleError(f"it holds more than {MOST_CONTAINERS:,} lists and dictionaries")
        self.stack.append(container)

    def last(self, count: int) -> None:
        if len(self.stack) < count:
            raise IndexError
        found = tuple(self.stack[-count:])
        del self.stack[-count:]
        self.keep(found)

    def put(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not dict or len(items) % 2:
            raise TypeError
        keys = items[::2]
        if not KEYS.issuperset(map(type, keys)):
            raise TypeError
        target.update(zip(keys, items[1::2], strict=True))

    def set_item(self) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        self.put([key, value])

    def add(self, items: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise TypeError
        target.extend(items)

    def binget(self) -> None:
        self.stack.append(self.memo[self.data[self.at]])
        self.at += 1

    def long_binget(self) -> None:
        self.stack.append(self.memo[int.from_bytes(self.take(4), "little")])

    def remember(self, place: int) -> None:
        self.memo[place] = self.stack[-1]
        if len(self.memo) > MOST_CONTAINERS:
            raise PickleError(f"it refers to more than {MOST_CONTAINERS:,} things")


STOP = ord(".")
KEYS = frozenset((str, int))
"""Types that a key may have: hashing one takes no longer than reading it."""
OPCODES: dict[int, Callable[[_Reader], None]] = {
    ord("h"): _Reader.binget,
    ord("j"): _Reader.long_binget,
    ord("("): _Reader.mark,
    0x8A: _Reader.long1,
    ord("G"): _Reader.double,
    ord("J"): lambda one: one.whole(4, True),
    ord("K"): lambda one: one.whole(1),
    ord("M"): lambda one: one.whole(2),
    0x8C: lambda one: one.words(1),
    ord("X"): lambda one: one.words(4),
    0x8D: lambda one: one.words(8),
    ord("C"): lambda one: one.plain_bytes(1),
    ord("B"): lambda one: one.plain_bytes(4),
    0x8E: lambda one: one.plain_bytes(8),
    ord("}"): lambda one: one.keep({}),
    ord("]"): lambda one: one.keep([]),
    ord(")"): lambda one: one.keep(()),
    ord("u"): lambda one: one.put(one.since_mark()),
    ord("s"): _Reader.set_item,
    ord("e"): lambda one: one.add(one.since_mark()),
    ord("a"): lambda one: one.add([one.stack.pop()]),
    ord("t"): lambda one: one.keep(tuple(one.since_mark())),
    0x85: lambda one: one.last(1),
    0x86: lambda one: one.last(2),
    0x87: lambda one: one.last(3),
    ord("N"): lambda one: one.stack.append(None),
    0x88: lambda one: one.stack.append(True),
    0x89: lambda one: one.stack.append(False),
    0x94: lambda one: one.remember(len(one.memo)),
    ord("q"): lambda one: one.remember(int.from_bytes(one.take(1), "little")),
    ord("r"): lambda one: one.remember(int.from_bytes(one.take(4), "little")),
    ord("0"): lambda one: one.stack.__delitem__(-1),
    0x80: lambda one: one.skip(1),  # the protocol
    0x95: lambda one: one.skip(8),  # the length of a frame
}
"""What plain data needs. STOP is not among them, so that it ends the loop."""
