"""Telling text that goes in from numbers that come out."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .contents import is_array, is_numbers, is_tensor, leaves

LEAST_CHARACTERS = 16
_SPLITTERS = ("split", "findall", "finditer", "rsplit", "partition")
_LIBRARIES = ("tokenizers", "sentencepiece", "tiktoken", "youtokentome", "blingfire")
WIDE_INTEGERS = ("int64", "int32", "int16", "uint16")


def is_text(thing: Any) -> bool:
    """A string of several words, or a list that begins with one; a path is none."""
    if type(thing) in (list, tuple) and thing:
        thing = thing[0]
    return type(thing) is str and len(thing) >= LEAST_CHARACTERS and " " in thing.strip()


def splits_text(function: Any) -> bool:
    """`str.split` of a text, or a search of a regular expression."""
    if getattr(function, "__name__", "") not in _SPLITTERS:
        return False
    owner = getattr(function, "__self__", None)
    return is_text(owner) or type(owner).__name__ == "Pattern"


def tokenizer_library(function: Any) -> bool:
    """A compiled function of a tokenizer library that takes text apart."""
    owner = type(getattr(function, "__self__", None))
    encodes = "encode" in str(getattr(function, "__name__", "")).lower()
    return encodes and owner.__module__.partition(".")[0] in _LIBRARIES


def makes_numbers(result: Any) -> bool:
    """Whether there is a sequence of integers in a result, wider than those of an image."""
    if isinstance(result, Mapping) and "input_ids" in result:
        return True
    for count, (_, leaf) in enumerate(leaves(result)):
        if count >= 16:
            break
        if is_tensor(leaf) or is_array(leaf):
            dtype = str(leaf.dtype).removeprefix("torch.")
            if dtype in WIDE_INTEGERS and leaf.ndim >= 1 and leaf.shape[-1] > 1:
                return True
        elif is_numbers(leaf):
            first = leaf[0][0] if isinstance(leaf[0], (list, tuple)) else leaf[0]
            if type(first) is int and len(leaf) > 1:
                return True
    return False
