"""Calls of transformers' tokenizers, looked up text by text. Standard library only."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like
from .fix import Process
from .number_lists import quick_tensor
from .ready_rows import ReadyRows
from .remembered_texts import RememberedTexts
from .same_values import same_values

OF_ONE = ("truncation", "max_length", "add_special_tokens", "return_token_type_ids")
OF_ONE_TOO = ("return_attention_mask", "verbose")
"""Arguments that say what becomes of one text."""
OF_BATCH = ("padding", "return_tensors", "pad_to_multiple_of")
"""Arguments that say how texts are put together."""
READY = "fix tokenize-once, ready rows"
COMPARED, COMPARE_AGAIN = 8, 128
"""First batches of each process that are made in the usual way too, then one of so many."""
PADS = {"input_ids": "pad_token_id", "token_type_ids": "pad_token_type_id", "attention_mask": None}
"""What a text's numbers are filled up with: an attribute of the tokenizer, or 0."""


class TokenizerCalls:
    """Wraps `PreTrainedTokenizerBase.__call__`.

    Args:
        process: Whose tokenizers are meant.
        library: The module that defines them.
        texts: What is remembered.
    """

    def __init__(self, process: Process, library: Any, texts: RememberedTexts) -> None:
        self._torch = process.torch
        self._texts = texts
        self._encoding = library.BatchEncoding
        self._batches = 0
        self._ready = ReadyRows(self._torch)
        self._numbers: dict[int, Callable[..., Any]] = {}
        process.patches.replace(library.PreTrainedTokenizerBase, "__call__", self._call)
        process.patches.replace(library.BatchEncoding, "__getattr__", self._attribute)

    def _call(self, original: Any) -> Any:
        def numbers(tokenizer: Any, text: str, **kwargs: Any) -> Any:
            return dict(original(tokenizer, text, **kwargs))

        self._texts.hold(numbers)

        def __call__(tokenizer: Any, *args: Any, **kwargs: Any) -> Any:
            def usual() -> Any:
                return original(tokenizer, *args, **kwargs)

            if len(args) != 1 or self._texts.counts.off or not _known(kwargs):
                return usual()
            data = None
            if type(args[0]) is str and "return_tensors" not in kwargs:
                data = self._texts.call(numbers, tokenizer, args[0], **kwargs)
            elif type(args[0]) in (list, tuple) and all(type(one) is str for one in args[0]):
                data = self._batch(tokenizer, numbers, args[0], kwargs, usual)
            return usual() if data is None else self._encoded(data, usual)

        return like(original, __call__)

    def _encoded(self, data: Mapping[str, Any], usual: Callable[[], Any]) -> Any:
        """The library's own type; what else it knows of the text is made when it is asked for."""
        if not isinstance(data, dict):
            return data
        encoding = self._encoding.__new__(self._encoding)
        encoding.__dict__.update(data=data, _n_sequences=1, _trainprof_usual=usual)
        return encoding

    def _attribute(self, original: Any) -> Any:
        def __getattr__(encoding: Any, name: str) -> Any:
            usual = encoding.__dict__.get("_trainprof_usual") if name == "_encodings" else None
            if usual is None:
                return original(encoding, name)
            encoding.__dict__["_encodings"] = found = usual()._encodings
            del encoding.__dict__["_trainprof_usual"]
            return found

        return like(original, __getattr__)

    def _batch(
        self, tokenizer: Any, numbers: Any, texts: Any, kwargs: dict[str, Any], usual: Any
    ) -> Any:
        """A batch out of its texts; None where it has to be made in the usual way."""
        of_one = {name: value for name, value in kwargs.items() if name not in OF_BATCH}
        if kwargs.get("padding") != "max_length" and not kwargs.get("truncation"):
            of_one.pop("max_length", None)  # says nothing of one text
        batch = guard.attempt(READY, self._of_ready, tokenizer, texts, of_one, kwargs)
        if batch is None:
            rows = [self._texts.call(numbers, tokenizer, text, **of_one) for text in texts]
            batch = guard.attempt("fix tokenize-once", self._together, tokenizer, rows, kwargs)
            if batch is not None and not self._texts.counts.off:
                guard.attempt(READY, self._keep_ready, tokenizer, texts, of_one, kwargs, rows)
        self._batches += 1
        if batch is None or (self._batches > COMPARED and self._batches % COMPARE_AGAIN):
            return batch
        encoded = usual()
        if not same_values(self._torch, dict(encoded), batch):
            self._texts.counts.refuse("a batch of texts came out other than the tokenizer makes it")
        return encoded

    def _ready_key(
        self, tokenizer: Any, of_one: Mapping[str, Any], kwargs: Mapping[str, Any]
    ) -> Any:
        """For batches of tensors filled up at their end, in a process that goes on."""
        plain = tokenizer.padding_side == "right" and bool(kwargs.get("return_tensors"))
        if self._texts.in_worker or not plain or not kwargs.get("padding"):
            return None
        return ReadyRows.key(tokenizer, of_one)

    def _of_ready(
        self, tokenizer: Any, texts: Any, of_one: Mapping[str, Any], kwargs: Mapping[str, Any]
    ) -> Any:
        key = self._ready_key(tokenizer, of_one, kwargs)
        rows = self._ready.find(key, texts) if key is not None and texts else None
        if rows is None:
            return None
        length = self._length(max(len(row["input_ids"]) for row in rows), kwargs)
        if not length:
            return None
        self._texts.counts.add("looked_up", len(texts))
        fills = {name: getattr(tokenizer, PADS[name] or "", 0) for name in rows[0]}
        return self._ready.together(rows, fills, length)

    def _keep_ready(
        self,
        tokenizer: Any,
        texts: Any,
        of_one: Mapping[str, Any],
        kwargs: Mapping[str, Any],
        rows: Any,
    ) -> None:
        key = self._ready_key(tokenizer, of_one, kwargs)
        if key is not None:
            self._ready.keep(key, texts, rows)

    @staticmethod
    def _length(longest: int, kwargs: Mapping[str, Any]) -> int:
        """Of a batch's rows; 0 where that is not said plainly."""
        if kwargs.get("padding") == "max_length":
            if not kwargs.get("max_length"):
                return 0
            longest = max(longest, kwargs["max_length"])
        multiple = kwargs.get("pad_to_multiple_of") or 1
        return -(-longest // multiple) * multiple

    def _together(self, tokenizer: Any, rows: Any, kwargs: Mapping[str, Any]) -> Any:
        padding = kwargs.get("padding", False)
        keys = list(rows[0]) if rows else []
        if padding not in (True, "longest", "max_length", False) or not set(keys) <= set(PADS):
            return None
        length = self._length(max(len(row["input_ids"]) for row in rows), kwargs)
        if not length and padding:
            return None
        batch = {}
        for key in keys:
            fill = getattr(tokenizer, PADS[key] or "", 0)
            of_rows = [row[key] for row in rows]
            if padding:
                of_rows = [_filled(row, fill, length, tokenizer.padding_side) for row in of_rows]
            batch[key] = self._tensor(of_rows) if kwargs.get("return_tensors") else of_rows
        return batch

    def _tensor(self, rows: list[list[int]]) -> Any:
        made = quick_tensor(self._torch, rows)
        return made if made is not None else self._torch.tensor(rows)


def _known(kwargs: Mapping[str, Any]) -> bool:
    """Whether all arguments are among those that are understood here."""
    known = {*OF_ONE, *OF_ONE_TOO, *OF_BATCH}
    return set(kwargs) <= known and kwargs.get("return_tensors") in (None, "pt")


def _filled(row: list[int], fill: int, length: int, side: str) -> list[int]:
    missing = [fill] * (length - len(row))
    return missing + row if side == "left" else row + missing
