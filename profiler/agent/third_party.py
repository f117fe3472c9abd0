"""Loads fixes of other packages in the training process, from files that trainprof has found.

`TRAINPROF_FIXES` holds them: id -> (file, class), as trainprof resolved them from the entry points
of its own environment. Nothing that a plan says gets here.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from typing import Any

VARIABLE = "TRAINPROF_FIXES"
ROOT = __name__.partition(".")[0]
SHOWN = (
    "",
    ".rules",
    ".rules.fixes",
    ".rules.fixes.fix",
    ".rules.fixes.made_objects",
    ".rules.fixes.source_edit",
)
"""What a fix of another package may import of trainprof, which need not be installed here."""


def handed_over() -> dict[str, Sequence[str]]:
    """The fixes that trainprof names to this process.

    Raises:
        ValueError: the variable holds something else.
    """
    found = json.loads(os.environ.get(VARIABLE) or "{}")
    if not isinstance(found, dict):
        raise ValueError(f"{VARIABLE} is no mapping")
    return found


def load(fix: str, files: Mapping[str, Sequence[str]]) -> Any:
    """The class of a fix.

    Raises:
        ValueError: it was not handed over, or its file does not hold it any more.
    """
    if fix not in files:
        raise ValueError(f"there is no fix {fix}")
    path, attribute = files[fix]
    stem = os.path.splitext(os.path.basename(path))[0]
    spec = spec_from_file_location(f"{ROOT}.third_party.{stem}", path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file")
    module = module_from_spec(spec)
    with _under_its_public_name():
        spec.loader.exec_module(module)
    kind = getattr(module, attribute, None)
    if getattr(kind, "id", None) != fix:
        raise ValueError(f"{path} holds no fix {fix}")
    return kind


@contextmanager
def _under_its_public_name() -> Iterator[None]:
    """`import trainprof.rules.fixes.fix` gives the agent's own copy meanwhile."""
    ours = {f"trainprof{part}": import_module(f"{ROOT}{part}") for part in SHOWN}
    before = {name: sys.modules.get(name) for name in ours}
    sys.modules.update(ours)
    try:
        yield
    finally:
        for name, module in before.items():
            if module is None:
                sys.modules.pop(name, None)
            else:
                sys.modules[name] = module
