"""attention-fused."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like
from .dropped_results import SecondResults
from .fix import Fix, Process, ReadBack
from .root_calls import RootCalls

NO_CALLERS = ("torch.", f"{__name__.partition('.')[0]}.")
"""Modules between an attention and who calls it."""


class AttentionFused(Fix):
    """Attention by torch's fused operator, where a library has a switch for it.

    Models of transformers that were made with `attn_implementation="eager"` are set to "sdpa" at
    their first call in training. `nn.MultiheadAttention` computes without the weights where its
    caller drops them: `out, _ = attention(q, k, v)` with `_` never read, or `attention(q, k, v)[0]`
    (Python 3.11). Attention that the script writes out itself is left to a person.

    Sums are made in another order. Dropout in attention draws the same random numbers on the CPU,
    and others on GPUs. Refused where attention weights are asked for (`output_attentions`), where
    the model has no such form, and for attentions with hooks.
    """

    id = "attention-fused"
    title = "Fused attention of the library"
    safety = "numerics"
    parameters: Mapping[str, type] = {}
    by_hand = (
        'attn_implementation="sdpa" for models of transformers, need_weights=False for '
        "nn.MultiheadAttention, else F.scaled_dot_product_attention(q, k, v)"
    )

    def install(self, process: Process) -> None:
        """Wraps the calls of root modules and the forward of torch's attention."""
        self._torch = process.torch
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()
        self._switched: weakref.WeakSet[Any] = weakref.WeakSet()
        self._results = SecondResults()
        self._fused = self._models = self._kept = 0
        self._called = False
        self._reason: str | None = None
        RootCalls(process, self._around)
        process.patches.replace(self._torch.nn.MultiheadAttention, "forward", self._attention)
        process.at_end(self._put_back)

    # Models of transformers.

    def _around(self, module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if kwargs.get("output_attentions"):
            self._put_back()
            self._reason = "the script asks for attention weights (output_attentions)"
        elif module.training and module not in self._seen and self._reason is None:
            self._seen.add(module)
            self._called = True
            for part in list(module.modules()):
                if hasattr(part, "set_attn_implementation"):
                    guard.attempt(f"fix {self.id}", self._switch, part)
        return call(*args, **kwargs)

    def _switch(self, model: Any) -> None:
        config = model.config
        if getattr(config, "_attn_implementation", None) != "eager":
            return
        if getattr(config, "output_attentions", False):
            self._reason = "the model gives attention weights (output_attentions)"
        elif not getattr(model, "_supports_sdpa", False):
            self._reason = f"{type(model).__name__} has no fused attention"
        else:
            model.set_attn_implementation("sdpa")
            if config._attn_implementation == "sdpa":
                self._switched.add(model)
                self._models += 1

    def _put_back(self) -> None:
        for model in list(self._switched):
            self._switched.discard(model)
            model.set_attn_implementation("eager")

    # torch's own module.

    def _attention(self, original: Any) -> Any:
        compiling = self._torch.compiler.is_dynamo_compiling

        def forward(module: Any, *args: Any, **kwargs: Any) -> Any:
            if compiling() or not module.training or not _asks_for_weights(args, kwargs):
                return original(module, *args, **kwargs)
            if not guard.attempt(f"fix {self.id}", self._is_dropped, module):
                self._kept += 1
                return original(module, *args, **kwargs)
            self._fused += 1
            names = ("key_padding_mask", "need_weights", "attn_mask", "average_attn_weights")
            given = dict(zip(names, args[3:], strict=False))
            return original(module, *args[:3], **{**given, **kwargs, "need_weights": False})

        return like(original, forward)

    def _is_dropped(self, module: Any) -> bool:
        self._called = True
        if module._forward_hooks or module._forward_pre_hooks:
            return False
        frame: FrameType | None = sys._getframe(3)  # behind guard and forward
        while frame is not None and str(frame.f_globals.get("__name__")).startswith(NO_CALLERS):
            frame = frame.f_back
        return frame is not None and self._results.dropped(frame)

    def read_back(self) -> ReadBack:
        """What the models say of themselves, and calls that were made without the weights."""
        sdpa = sum(one.config._attn_implementation == "sdpa" for one in self._switched)
        seen = {"models": self._models, "calls": self._fused, "with_weights": self._kept}
        if self._reason is not None and not self._fused:
            return ReadBack(False, seen, self._reason)
        if sdpa or self._fused or (self._models and not self._reason):
            return ReadBack(True, seen)
        if self._kept:
            return ReadBack(False, seen, "the script keeps the attention weights")
        if not self._called:
            return ReadBack(None, seen, "no module was called in training")
        return ReadBack(False, seen, "no attention of a library with a switch was called")


def _asks_for_weights(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> bool:
    return bool(args[4] if len(args) > 4 else kwargs.get("need_weights", True))
