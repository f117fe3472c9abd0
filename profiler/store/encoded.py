"""JSON of records that may hold names of files which are no UTF-8."""

from __future__ import annotations

from typing import Any

import msgspec


def encode_json(value: object) -> bytes:
    """One line of JSON; nan and infinity become null.

    File names, arguments and names of processes may hold bytes that are no UTF-8. Python keeps them
    as surrogates, which JSON cannot hold: they are written as a backslash and their number.
    """
    try:
        return msgspec.json.encode(value)
    except UnicodeEncodeError:
        return msgspec.json.encode(_valid_text(msgspec.to_builtins(value)))


def _valid_text(value: Any) -> Any:
    """Plain data with every text made valid UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode("utf-8")
    if isinstance(value, dict):
        return {_valid_text(key): _valid_text(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_valid_text(item) for item in value]
    return value
