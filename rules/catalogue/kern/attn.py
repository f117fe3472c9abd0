"""kern-attn."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    gain,
    is_on,
    largest_phase,
    needed,
    number,
    observed,
    percent,
    place,
    plural,
    text,
    trains_on_cpu,
)
from trainprof.rules.rule import Candidate, Case, Rule


class Attn(Rule):
    """Attention is written out as a product, a softmax and another product.

    ## What it finds
    The chain `q @ k.transpose() -> scale, mask -> softmax -> dropout -> weights @ v` in the
    operators of a step, where torch has one operator for all of it.

    ## Why it costs time
    Written out, the scores of every head are a tensor of length times length elements that is
    written to memory and read back at each link of the chain, and once more in the backward. The
    fused operator works through the scores in tiles that stay in the cache and never stores them;
    with a causal mask it skips the half that is masked. The memory for the scores goes as well:
    it no longer grows with the square of the length.

    ## Evidence needed
    - One step under torch's profiler shows the chain, with products of batches of matrices.
    - The chain, its backward included, takes at least 10 % of that step.
    - In a trace of a device: kernels of a softmax between products of batches of matrices, on one
      stream and linked with their operators, take at least 10 % of the window.

    The expected gain is Amdahl's bound on that share. Fused against written out on a CPU (torch
    2.13, one thread, forward and backward): 1.3 to 3.3 times faster with a causal mask and 1.1 to
    2.0 without, lengths of 16 to 1024, heads 16 to 64 wide; the more the longer and the narrower.
    On a device 1.3 to 3 times is expected: FlashAttention reports up to 3 for a whole GPT-2.

    ## Fix
    `torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)` in place of the
    chain; `dropout_p` and `attn_mask` are arguments of it. `nn.MultiheadAttention` uses it once it
    is called with `need_weights=False`, Hugging Face models with `attn_implementation="sdpa"`.

    ## Fix safety
    Numerics. The same sums in another order; with dropout another random stream.

    ## When it is wrong
    Where the attention weights themselves are needed (to look at them, or for a loss on them),
    there is nothing to fuse, which cannot be seen from the operators. Silent for softmaxes between
    learnt layers (gates, routers, classifiers) and below 10 % of the step. Of runs on accelerators
    nothing is said without a trace, as operators are looked at on the CPU only.

    ## References
    - torch.nn.functional.scaled_dot_product_attention:
      https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
    - Dao et al. 2022, FlashAttention: https://arxiv.org/abs/2205.14135
    """

    id = "kern-attn"
    title = "Attention is not fused"
    needs = ("operators.attention_share",)
    on_traces = True
    suppresses = ("kern-compile", "kern-noncontig")
    fires_on = (
        Case(
            "a causal transformer spends 60 % of its step in written-out attention",
            {
                "operators.attention_share": 0.6,
                "operators.attention_count": 4,
                "operators.attention_length": 256,
                "operators.attention_masked": True,
                "operators.attention_where": {"file": "model.py", "line": 31},
                "step.forward_share": (0.4, 0.38, 0.42),
            },
            severity="critical",
            gain=(1.3, 1.8),
        ),
        Case(
            "an encoder without mask spends a fifth of its step there",
            {
                "operators.attention_share": 0.2,
                "operators.attention_count": 2,
                "operators.attention_length": 128,
                "operators.attention_masked": False,
                "step.forward_share": (0.4, 0.38, 0.42),
            },
            gain=(1.02, 1.12),
        ),
        Case(
            "written out on a device, in a trace",
            {
                "operators.attention_share": 0.4,
                "operators.attention_count": 12.0,
                "timeline.window": "5 whole steps",
            },
            severity="warn",
            gain=(1.1, 1.4),
        ),
    )
    silent_on = (
        Case(
            "attention is fused",
            {
                "operators.attention_share": 0.0,
                "operators.attention_count": 0,
                "step.forward_share": (0.4, 0.38, 0.42),
            },
        ),
        Case(
            "written out, but 8 % of the step",
            {
                "operators.attention_share": 0.08,
                "operators.attention_count": 1,
                "operators.attention_length": 32,
                "operators.attention_masked": True,
                "step.forward_share": (0.4, 0.38, 0.42),
            },
        ),
        Case(
            "a training on an accelerator",
            {
                "operators.attention_share": 0.5,
                "operators.attention_count": 1,
                "operators.attention_length": 512,
                "model.devices": {"cuda:0": 1_000_000},
                "step.forward_share": (0.4, 0.38, 0.42),
            },
        ),
    )

    min_share = 0.10
    """Part of the step; below it even the best ratio gains little (the threshold of a warn)."""
    masked_speedup_low, masked_speedup_high = 1.3, 3.3
    """Fused against written out with a causal mask (measured, see the page)."""
    plain_speedup_low, plain_speedup_high = 1.1, 2.0
    """The same without a mask."""
    device_speedup_low, device_speedup_high = 1.3, 3.0
    """The same on a device (Dao et al. 2022)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at the share of the chain in the step that was watched."""
        share = needed(signals, "operators.attention_share")
        window = text(signals, "timeline.window")
        if share < self.min_share or not (window or trains_on_cpu(signals)):
            return
        masked = is_on(signals, "operators.attention_masked")
        least = self.masked_speedup_low if masked else self.plain_speedup_low
        most = self.masked_speedup_high if masked else self.plain_speedup_high
        if window:
            least, most = self.device_speedup_low, self.device_speedup_high
        typical = (least * most) ** 0.5
        count = int(number(signals, "operators.attention_count") or 1)
        length = number(signals, "operators.attention_length")
        over = f" over {length:.0f} positions" if length else ""
        yield Candidate(
            summary=(
                f"{plural(count, 'attention')} a step{over} "
                f"{'is' if count == 1 else 'are'} written out as product, softmax, product, "
                f"and {'takes' if count == 1 else 'take'} {percent(share)} of "
                f"{window or 'the step'}."
            ),
            evidence=(
                *observed(signals, "operators.attention_share", self.min_share),
                *observed(signals, "operators.attention_count"),
                *observed(signals, "operators.attention_length"),
                *observed(signals, "operators.attention_masked"),
            ),
            share=share * (1 - 1 / typical),
            gain=gain(share, share, least, most),
            where=place(signals, "operators.attention_where"),
            fixes=(self._advice(signals, masked),),
            confidence="medium",
            next_bottleneck=None if window else largest_phase(signals),
        )

    @staticmethod
    def _advice(signals: Signals, masked: bool) -> FixAdvice:
        """A switch where a library has one; what the script writes out is a person's work."""
        causal = ", is_causal=True" if masked else ""
        switchable = number(signals, "model.switchable_attentions") != 0
        return FixAdvice(
            fix="attention-fused" if switchable else "attention-call",
            params={},
            safety="numerics",
            text=(
                "Call torch's fused attention in place of the chain; a mask that is not causal "
                "goes in as attn_mask."
                if masked
                else "Call torch's fused attention in place of the chain."
            ),
            code=f"F.scaled_dot_product_attention(q, k, v{causal})",
        )
