"""tokenize-once."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from types import FunctionType
from typing import Any

from ...profiler.agent.location import is_user_file
from ...profiler.agent.patching import like
from .attribute_reads import attributes_read
from .dataset_state import PLAIN, changed_parts, fingerprint, parts_of
from .fix import Fix, Process, ReadBack
from .loading import Loading, holds_line, started_by_fork
from .remembered_texts import RememberedTexts
from .tokenizer_calls import TokenizerCalls

OF_TRANSFORMERS = "transformers.tokenization_utils_base"


class TokenizeOnce(Fix):
    """Each text becomes numbers once; after that its numbers are looked up.

    It remembers what the function of the script at the target's line returns for a text, and what
    tokenizers of transformers return for one. A list of texts is put together out of the numbers of
    each, padded as the tokenizer pads. The result is kept as bytes in memory that loader workers
    share (a quarter of what is free, 512 MB at most), and every call gets a copy of its own. Where
    no worker does it, texts of padded batches are kept as tensors too (128 MB at most).

    The key is the text with all other arguments: numbers and texts by value, objects by identity
    and length. The first eight results looked up in each process, and one of 128 after that, are
    made again and compared; one difference ends it. It is refused for functions that draw random
    numbers or return other things than numbers, texts, tensors and arrays; where workers are not
    forked; and where the script changes the data set between epochs, unless that is a number or
    text whose name stands neither in the function's code nor in that of the script's functions
    which it calls.
    """

    id = "tokenize-once"
    title = "Texts are tokenized once"
    safety = "safe"
    from_second_epoch = True
    parameters: Mapping[str, type] = {}
    made_in_source = True
    by_hand = "self.tokens = [tokenize(text) for text in self.texts] in the data set's __init__"

    def install(self, process: Process) -> None:
        """Waits for the first loader, or the first update: by then the functions are defined."""
        self._process = process
        self._texts: RememberedTexts | None = None
        self._wrapped: list[str] = []
        self._functions: list[tuple[Any, type | None]] = []  # each with the class it is of
        self._states: dict[int, Any] = {}
        self._refused: str | None = None
        self._loading = Loading(process, None, self.id, self._on_fetcher, self._on_loader)
        process.at_start(self._begin)

    def _begin(self) -> None:
        if self._texts is not None:
            return
        self._texts = RememberedTexts(self._process.torch)
        library = sys.modules.get(OF_TRANSFORMERS)
        if library is not None:
            TokenizerCalls(self._process, library, self._texts)
            self._wrapped.append("the tokenizers of transformers")
        if self.target is not None:
            for owner, name, function in _functions_at(self.target):
                of_class = owner if isinstance(owner, type) else None
                self._functions.append((function, of_class))
                self._texts.hold_function(function, of_class is not None)
                self._process.patches.replace(owner, name, self._wrap(function))
                self._wrapped.append(name)

    def _wrap(self, function: Any) -> Callable[[Any], Any]:
        texts = self._texts
        assert texts is not None

        def make(original: Any) -> Any:
            def remembered(*args: Any, **kwargs: Any) -> Any:
                return texts.call(function, *args, **kwargs)

            return like(original, remembered)

        return make

    def _on_loader(self, loader: Any) -> None:
        self._begin()
        if self._texts is None:
            return
        if not started_by_fork(self._process.torch, loader):
            self._refused = "workers that are not forked share no memory"
        dataset = loader.dataset
        for holder in (dataset, loader.collate_fn):
            for part in [holder, *parts_of(holder), *_globals_of(holder)]:
                self._texts.hold(part)
        self._texts.datasets[id(dataset)] = dataset
        state = fingerprint(dataset)
        before, self._states[id(dataset)] = self._states.get(id(dataset), ()), state
        for part in changed_parts(before, state):
            if self._may_read(dataset, part):
                reason = f"the script changes the data set between epochs ({part})"
                self._texts.counts.refuse(reason)

    def _may_read(self, dataset: Any, part: str) -> bool:
        """Whether what is remembered depends on an attribute of the data set.

        A number or text of its own is read by its name, or is an argument and so part of the key;
        a library's tokenizer cannot read it. Anything else may be an argument, or in one.
        """
        assert self._texts is not None
        is_plain = "." not in part and isinstance(vars(dataset).get(part), PLAIN)
        if not is_plain or self._texts.counts.total("given_whole"):
            return True
        if any(value is dataset for value in parts_of(dataset)):  # one of its parts knows it
            return True
        read = [attributes_read(*one, type(dataset)) for one in self._functions]
        return any(names is None or part in names for names in read)

    def _on_fetcher(self, loader: Any, fetcher: Any) -> None:
        info = self._process.torch.utils.data.get_worker_info()
        if self._texts is not None:
            self._texts.in_worker = info is not None

    def read_back(self) -> ReadBack:
        """How many texts were looked up."""
        if self._refused is not None:
            return ReadBack(False, reason=self._refused)
        if self._texts is None:
            return ReadBack(None, reason="nothing was trained yet")
        seen = self._texts.counts.totals()
        del seen["given_whole"]
        if self._texts.counts.refused is not None:
            return ReadBack(False, seen, self._texts.counts.refused)
        if seen["looked_up"]:
            return ReadBack(True, seen)
        if not self._wrapped:
            reason = (
                "no function of the script's modules is there"
                if self.target
                else ("transformers is not used; name a function of your own with at=FILE:LINE")
            )
            return ReadBack(False, seen, reason)
        return ReadBack(None, seen, "no text came a second time yet")


def _globals_of(holder: Any) -> list[Any]:
    """What the function, or the class's `__getitem__`, may know by a global name or a closure."""
    function = (
        holder if type(holder) is FunctionType else getattr(type(holder), "__getitem__", None)
    )
    if type(function) is not FunctionType:
        return []
    cells = [cell.cell_contents for cell in function.__closure__ or () if _is_filled(cell)]
    return [*(function.__globals__[name] for name in _names_of(function)), *cells]


def _names_of(function: Any) -> list[str]:
    return [name for name in function.__code__.co_names if name in function.__globals__]


def _is_filled(cell: Any) -> bool:
    try:
        return cell.cell_contents is not None
    except ValueError:
        return False


def _functions_at(target: Any) -> Iterator[tuple[Any, str, Any]]:
    """The function whose source holds the line, wherever a module or class has it by a name."""
    line = (target.file, target.line)
    modules = [
        module
        for module in list(sys.modules.values())
        if is_user_file(getattr(module, "__file__", None) or "<none>")
    ]
    owners: list[Any] = list(modules)
    for module in modules:
        owners += [
            member
            for member in list(vars(module).values())
            if isinstance(member, type) and member.__module__ == module.__name__
        ]
    for owner in owners:
        for name, member in list(vars(owner).items()):
            if type(member) is FunctionType and holds_line(member, line):
                yield owner, name, member
