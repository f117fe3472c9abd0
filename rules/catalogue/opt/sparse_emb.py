"""opt-sparse-emb."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Location
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    gain,
    largest_phase,
    low,
    needed,
    number,
    observed,
    percent,
    place,
    size,
    text,
)
from trainprof.rules.rule import Candidate, Case, Rule
from trainprof.rules.source_calls import calls


class SparseEmb(Rule):
    """A large embedding table gets a dense gradient although a batch touches few of its rows.

    ## What it finds
    An `nn.Embedding` that holds at least half of the model, of which a batch can touch less than
    1 % of the rows, with a gradient and an update over all rows.

    ## Why it costs time
    A dense gradient is a tensor as large as the table: it is filled with zeros, added to, and read
    by the optimizer, which reads and writes the whole table and its state for rows that did not
    change. A sparse gradient holds the touched rows only.

    ## Evidence needed
    - One step under torch's profiler shows the lookup, its number of indices and a dense backward.
    - The table holds at least 50 % of the parameters' bytes.
    - The optimizer and the table's backward take at least 20 % of the step.

    The expected gain is Amdahl's bound on these two with ratios of 3 to 100. Measured on a CPU
    (torch 2.13, one thread): 200,000 x 64 values under plain SGD 147 times slower than sparse (137
    to 169) for whole steps that do little else.

    ## Fix
    `nn.Embedding(rows, width, sparse=True)` with plain `SGD`, or with `SparseAdam` for the table
    and another optimizer for the rest.

    ## Fix safety
    Numerics with SGD without momentum and weight decay: the same updates. Semantics with any other
    optimizer: momentum, decay and Adam's averages then move a row only when it is touched.

    ## When it is wrong
    Where the rows that are not touched must move (weight decay, momentum), where the table is tied
    to an output layer, whose gradient is dense anyway, or where the training is distributed and the
    backend cannot reduce sparse gradients. Silent when the table is small beside the model or the
    batch touches more than 1 % of it.

    ## References
    - torch.nn.Embedding, `sparse`:
      https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html
    - torch.optim.SparseAdam:
      https://docs.pytorch.org/docs/stable/generated/torch.optim.SparseAdam.html
    """

    id = "opt-sparse-emb"
    title = "Large embedding table with a dense gradient"
    needs = (
        "operators.embedding_touched_share",
        "operators.embedding_bytes",
        "model.parameter_bytes",
        "step.optimizer_share",
    )
    suppresses = ("opt-unfused",)
    fires_on = (
        Case(
            "150,000 rows, 384 of them touched, under plain SGD",
            {
                "operators.embedding_rows": 150_000,
                "operators.embedding_touched_share": 0.0026,
                "operators.embedding_bytes": 19_200_000,
                "operators.embedding_backward_share": 0.4,
                "operators.embedding_where": {"file": "train.py", "line": 19},
                "model.parameter_bytes": 19_204_000,
                "step.optimizer_share": (0.5, 0.48, 0.52),
                "optimizer.type": "SGD",
                "optimizer.momentum": 0.0,
            },
            severity="critical",
            gain=(2.5, 9.0),
        ),
    )
    silent_on = (
        Case(
            "a vocabulary of which a batch touches a tenth",
            {
                "operators.embedding_rows": 10_000,
                "operators.embedding_touched_share": 0.1,
                "operators.embedding_bytes": 2_560_000,
                "operators.embedding_backward_share": 0.1,
                "model.parameter_bytes": 3_000_000,
                "step.optimizer_share": (0.3, 0.28, 0.32),
            },
        ),
        Case(
            "a table that is small beside the model",
            {
                "operators.embedding_rows": 100_000,
                "operators.embedding_touched_share": 0.002,
                "operators.embedding_bytes": 3_200_000,
                "operators.embedding_backward_share": 0.02,
                "model.parameter_bytes": 400_000_000,
                "step.optimizer_share": (0.3, 0.28, 0.32),
            },
        ),
        Case(
            "the network above it takes nearly all of the step",
            {
                "operators.embedding_rows": 100_000,
                "operators.embedding_touched_share": 0.002,
                "operators.embedding_bytes": 25_600_000,
                "operators.embedding_backward_share": 0.03,
                "model.parameter_bytes": 30_000_000,
                "step.optimizer_share": (0.05, 0.04, 0.06),
            },
        ),
    )

    max_touched_share = 0.01
    """Rows that a batch can touch; beyond it sorting the indices eats the gain (a starting
    value)."""
    min_bytes_share = 0.5
    """Of the model; else the optimizer's time belongs to other tensors."""
    min_share = 0.20
    """Optimizer and the table's backward together (a starting value)."""
    speedup_low, speedup_high = 3.0, 100.0
    """Of both (measured up to 169, see the page)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares what a batch touches with what gradient and update go over."""
        touched = needed(signals, "operators.embedding_touched_share")
        table_bytes = needed(signals, "operators.embedding_bytes")
        part = table_bytes / max(needed(signals, "model.parameter_bytes"), 1.0)
        if touched >= self.max_touched_share or part < self.min_bytes_share:
            return
        backward = number(signals, "operators.embedding_backward_share") or 0.0
        optimizer = needed(signals, "step.optimizer_share") * min(part, 1.0)
        share = min(backward + optimizer, 1.0)
        if share < self.min_share:
            return
        share_low = min(
            (low(signals, "step.optimizer_share") or 0.0) * min(part, 1.0) + backward, 1
        )
        typical = (self.speedup_low * self.speedup_high) ** 0.5
        rows = number(signals, "operators.embedding_rows") or 0
        plain = (text(signals, "optimizer.type") or "").rpartition(".")[2] == "SGD" and number(
            signals, "optimizer.momentum"
        ) == 0.0
        yield Candidate(
            summary=(
                f"A batch can touch {percent(touched)} of the {rows:,.0f} rows of an embedding "
                f"({size(table_bytes)}), but its gradient and its update go over all of them: "
                f"{percent(share)} of the step."
            ),
            evidence=(
                *observed(signals, "operators.embedding_touched_share", self.max_touched_share),
                *observed(signals, "operators.embedding_rows"),
                *observed(signals, "operators.embedding_bytes"),
                *observed(signals, "operators.embedding_backward_share"),
                *observed(signals, "step.optimizer_share"),
            ),
            share=share * (1 - 1 / typical),
            share_low=share_low * (1 - 1 / self.speedup_low),
            gain=gain(share_low, share, self.speedup_low, self.speedup_high),
            where=_made_at(signals) or place(signals, "operators.embedding_where"),
            fixes=(
                FixAdvice(
                    fix="embedding-sparse",
                    params={"sparse": True},
                    safety="numerics" if plain else "semantics",
                    text=(
                        "Give the embedding sparse gradients."
                        if plain
                        else "Give the embedding sparse gradients, and its own SGD or SparseAdam."
                    ),
                    code="nn.Embedding(rows, width, sparse=True)",
                ),
            ),
            confidence="medium",
            next_bottleneck=largest_phase(signals, besides=("optimizer",)),
        )


def _made_at(signals: Signals) -> Location | None:
    """The line where the table is made, which is the one to change, if there is only one."""
    made = [*calls(signals, "torch.nn.Embedding"), *calls(signals, "torch.nn.EmbeddingBag")]
    return made[0].where if len(made) == 1 else None
