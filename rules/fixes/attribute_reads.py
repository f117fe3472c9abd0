"""Which attributes of an object a function can read, by the names in its code.

Standard library only.
"""

from __future__ import annotations

import dis
from collections.abc import Iterator
from types import (
    CodeType,
    FunctionType,
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    ModuleType,
    WrapperDescriptorType,
)
from typing import Any

from ...profiler.agent.location import is_user_file

DYNAMIC = frozenset(
    (
        *("getattr", "vars", "eval", "exec", "globals", "locals", "super"),
        *("attrgetter", "methodcaller", "__dict__", "__getattribute__", "__getattr__"),
        *("__slots__", "__class__", "__self__"),
    )
)
"""With one of these names any attribute may be read."""
MOST_FUNCTIONS = 200
OF_C = (
    GetSetDescriptorType,
    MemberDescriptorType,
    MethodDescriptorType,
    WrapperDescriptorType,
)
"""Members of classes that read nothing else of the object."""


def attributes_read(function: FunctionType, owner: type | None, holder: type) -> set[str] | None:
    """Names by which a function, and what it calls of the user's, may read attributes of an object.

    Functions that it calls are taken for all of the script's that have a name of its code: methods
    of both classes, globals, functions of modules. A library's cannot know the object, unless it is
    handed on.

    Args:
        function: Of the script.
        owner: The class that it is a method of; None for a function of a module.
        holder: The class of the object.

    Returns:
        The names; None where it may read every attribute: by `getattr` and the like, where a method
        hands its object on, and where what it calls cannot be followed.
    """
    waiting = [(function, owner is not None)]
    seen: set[Any] = set()
    names: set[str] = set()
    while waiting:
        one, is_method = waiting.pop()
        if one in seen:
            continue
        seen.add(one)
        codes = list(_codes(one.__code__))
        if len(seen) > MOST_FUNCTIONS or any(_is_open(code, one, is_method) for code in codes):
            return None
        here = {name for code in codes for name in code.co_names}
        names |= here
        for member, of_class in _called(one, here, [kind for kind in (owner, holder) if kind]):
            plain = _functions_of(member)
            if plain is None and of_class:
                return None
            waiting += [(each, of_class) for each in plain or () if is_user_file(_file_of(each))]
    return names


def _codes(code: CodeType) -> Iterator[CodeType]:
    """A function's code and that of functions inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _codes(constant)


def _is_open(code: CodeType, function: FunctionType, is_method: bool) -> bool:
    """Whether this code reads attributes by other ways than their names."""
    if DYNAMIC & {*code.co_names, *code.co_freevars}:
        return True
    of_function = function.__code__
    if not is_method or not of_function.co_argcount:
        return False
    receiver = of_function.co_varnames[0]
    steps = list(dis.get_instructions(code))
    return any(
        _loads(step, receiver) and after.opname not in ("LOAD_ATTR", "LOAD_METHOD", "STORE_ATTR")
        for step, after in zip(steps, [*steps[1:], steps[-1]], strict=True)
    )


def _loads(step: dis.Instruction, name: str) -> bool:
    loads = step.opname.startswith("LOAD_") and step.opname not in ("LOAD_CLOSURE", "LOAD_CONST")
    values = step.argval if isinstance(step.argval, tuple) else (step.argval,)
    local = step.opname.startswith("LOAD_FAST") or step.opname.endswith("DEREF")
    return loads and local and name in values


def _called(
    function: FunctionType, names: set[str], classes: list[type]
) -> Iterator[tuple[Any, bool]]:
    """What the names may stand for, and whether it is of one of the classes."""
    for name in names:
        for part in {part for kind in classes for part in kind.__mro__}:
            if name in vars(part):
                yield vars(part)[name], True
    known = [function.__globals__[name] for name in names if name in function.__globals__]
    for cell in function.__closure__ or ():
        try:
            known.append(cell.cell_contents)
        except ValueError:  # it is not filled yet
            continue
    for thing in known:
        yield thing, False
        if isinstance(thing, ModuleType):
            yield from ((vars(thing)[one], False) for one in names if one in vars(thing))
        else:
            kind = thing if isinstance(thing, type) else type(thing)
            yield from ((member, False) for member in vars(kind).values())


def _functions_of(member: Any) -> list[FunctionType] | None:
    """The functions behind a member, none for values; None for what cannot be looked into."""
    if isinstance(member, (staticmethod, classmethod)):
        return _functions_of(member.__func__)
    if isinstance(member, property):
        return _functions_of(member.fget)
    own = [member] if isinstance(member, FunctionType) else []
    inside = getattr(member, "__wrapped__", None) or getattr(member, "func", None)
    if inside is not None:  # functools.wraps, lru_cache, cached_property, partial
        return [*own, *(_functions_of(inside) or ())]
    if own or not hasattr(type(member), "__get__") or isinstance(member, OF_C):
        return own
    return None


def _file_of(function: FunctionType) -> str:
    return function.__code__.co_filename
