"""When data-tokenize-inloop also names the threads of a tokenizer."""

from __future__ import annotations

import pytest

from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.catalogue.data.tokenize_inloop import TokenizeInloop

IN_THE_LOOP = {"step.residual_share": 0.77, "stacks.residual_token_share": 0.98}


@pytest.mark.parametrize(
    ("setting", "idle_cores", "advised"),
    [
        ("false", 3.0, True),
        ("OFF", 3.0, True),
        ("true", 3.0, False),
        (None, 3.0, False),
        ("false", 0.2, False),
        ("false", None, False),
    ],
)
def test_threads_where_they_are_forbidden_and_have_a_core(setting, idle_cores, advised):
    signals = IN_THE_LOOP | {
        "environment.TOKENIZERS_PARALLELISM": setting,
        "host.idle_cores": idle_cores,
    }
    found = TokenizeInloop().check(
        Signals({name: Signal(value) for name, value in signals.items()})
    )
    fixes = {one.fix: one.params for one in next(iter(found)).fixes}
    assert ("tokenizers-parallelism" in fixes) == advised
    assert fixes.get("tokenizers-parallelism", {"parallel": True}) == {"parallel": True}
