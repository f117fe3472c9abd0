"""Data sets whose samples are rows of what lies in memory. Standard library only."""

from __future__ import annotations

import ast
import inspect
import sys
import textwrap
from collections.abc import Callable, Sequence
from typing import Any


class Unsuitable(Exception):
    """The samples are no rows; the message says why."""


class Indexed:
    """Makes whole batches of one data set, as torch's default collate function would.

    Args:
        torch: The user's torch.
        dataset: A `TensorDataset`, a `Subset` of one, or a data set of the user's own whose
            `__getitem__` returns `self.x[i]`, or a tuple, list or dict of such rows.

    Raises:
        Unsuitable: it is none of these.
    """

    def __init__(self, torch: Any, dataset: Any) -> None:
        self._torch = torch
        self._subsets: list[Any] = []
        data = torch.utils.data
        while type(dataset) is data.Subset:
            self._subsets.append(dataset)
            dataset = dataset.dataset
        self._dataset = dataset
        if getattr(dataset, "__getitems__", None) is not None:
            raise Unsuitable("the data set makes whole batches itself")
        if type(dataset).__getitem__ is data.TensorDataset.__getitem__:
            self._names: Any = None
        else:
            self._names = rows_returned(type(dataset))
        self._rows(lambda part: _check(torch, part))

    def batch(self, indices: Sequence[Any]) -> Any:
        """The batch, or None where it has to be made in the usual way."""
        if any(type(index) is not int for index in indices):
            return None
        try:
            chosen = list(indices)
            for subset in self._subsets:
                chosen = [int(subset.indices[index]) for index in chosen]
            places = self._torch.tensor(chosen, dtype=self._torch.int64)
            return self._rows(lambda part: self._taken(part, places, chosen))
        except Unsuitable:  # other data has been put in its place since
            return None
        except IndexError:  # the script is to get its own
            return None

    def _rows(self, take: Callable[[Any], Any]) -> Any:
        """The structure that `__getitem__` returns, with something for each of its parts."""
        if self._names is None:
            return [take(part) for part in self._dataset.tensors]
        attributes = vars(self._dataset)

        def of(name: str) -> Any:
            if name not in attributes:
                raise Unsuitable(f"{name} is no attribute of the data set itself")
            return take(attributes[name])

        if isinstance(self._names, str):
            return of(self._names)
        if isinstance(self._names, dict):
            return {key: of(name) for key, name in self._names.items()}
        return [of(name) for name in self._names]  # of tuples, too

    def _taken(self, part: Any, places: Any, chosen: list[int]) -> Any:
        _check(self._torch, part)
        if isinstance(part, self._torch.Tensor):
            return part[places]
        if isinstance(part, list):
            return self._torch.utils.data.default_collate([part[index] for index in chosen])
        return self._torch.from_numpy(part[places.numpy()])


def _check(torch: Any, part: Any) -> None:
    """Raises Unsuitable for what holds no rows, or rows that are no plain numbers in memory."""
    if type(part) is torch.Tensor:
        if part.device.type != "cpu":
            raise Unsuitable(f"its rows lie on {part.device.type}")
        if part.requires_grad or part.layout != torch.strided or part.dim() == 0:
            raise Unsuitable("its tensors are no plain numbers")
        return
    numpy = sys.modules.get("numpy")
    if numpy is not None and type(part) is numpy.ndarray:
        if part.dtype.kind not in "biuf" or part.ndim == 0:
            raise Unsuitable("its arrays are no plain numbers")
        return
    if type(part) is list and part and type(part[0]) in (int, float):
        return
    raise Unsuitable(f"it holds a {type(part).__name__}, not a tensor or an array")


def rows_returned(kind: type) -> str | list[str] | dict[Any, str]:
    """Names of the attributes of which `__getitem__` returns rows, as it arranges them.

    Raises:
        Unsuitable: it does more than that, or its source is not there.
    """
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(vars(kind)["__getitem__"])))
    except (OSError, TypeError, KeyError, SyntaxError):
        raise Unsuitable("the source of its __getitem__ is not there") from None
    (function,) = tree.body
    if not isinstance(function, ast.FunctionDef) or function.decorator_list:
        raise Unsuitable("its __getitem__ is no plain method")
    statements = function.body[ast.get_docstring(function) is not None :]
    names = [argument.arg for argument in function.args.args]
    only = statements[0] if len(statements) == 1 else None
    if not isinstance(only, ast.Return) or len(names) != 2:
        raise Unsuitable("its __getitem__ does more than return rows")
    value = only.value
    if isinstance(value, (ast.Tuple, ast.List)) and value.elts:
        return [_row(one, names) for one in value.elts]
    if isinstance(value, ast.Dict) and value.keys:
        keys = [key.value if isinstance(key, ast.Constant) else None for key in value.keys]
        if None in keys:
            raise Unsuitable("its __getitem__ does more than return rows")
        return dict(zip(keys, (_row(one, names) for one in value.values), strict=True))
    return _row(value, names)


def _row(value: Any, names: Sequence[str]) -> str:
    """`self.NAME[i]`."""
    if (
        isinstance(value, ast.Subscript)
        and isinstance(value.value, ast.Attribute)
        and isinstance(value.value.value, ast.Name)
        and isinstance(value.slice, ast.Name)
        and (value.value.value.id, value.slice.id) == tuple(names)
    ):
        return value.value.attr
    raise Unsuitable("its __getitem__ does more than return rows")
