"""comp-dead-units."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import is_on, needed, number, observed, percent, place, text
from trainprof.rules.rule import Candidate, Case, Rule

_DYING = {
    "units.dead_layers": "features.3, features.6",
    "units.dead_share": 0.45,
    "units.dead_kind": "never active",
    "units.dead_layer_work_share": 0.8,
    "units.idle_work_share": 0.36,
    "units.work": "the floating-point operations of its convolutions and linear layers",
    "units.first_update": 400,
    "units.sampled_steps": 96,
    "units.sparse": False,
    "units.zero_share": 0.001,
}


class DeadUnits(Rule):
    """Many output channels of the heavy layers give nothing: never active, or without weights.

    ## What it finds
    Convolutions or linear layers of which a fifth of the output channels or more is dead: never
    above zero behind its ReLU on the sampled steps, or with weights that are all zero.

    ## Why it costs time
    A dead channel is computed in each forward, and its zeros are multiplied by the next layer, for
    nothing. Behind a ReLU it gets no gradient either, so that it seldom comes back: the network is
    smaller than it was meant to be.

    ## Evidence needed
    - Sampled steps: the values behind the ReLU, in a part of rows and positions, shifted from step
      to step; the last 16 sampled steps or more, none of them in the first 100 updates. A channel
      counts as dead after at least 1,000 values without one above zero, and only if nine tenths of
      the other channels were active 20 times or more.
    - Or weights: all of a channel's below 1e-8, in a layer that is trained.
    - Layers with at least 20 % dead channels hold at least 20 % of the floating-point operations of
      the convolutions and linear layers (the 64 largest), or of their parameters where the layers
      were not seen running; the sentence says which.

    It is a note. The part of the operations that goes into dead channels is named, without the part
    of the next layer's that reads them. No gain is predicted from it: how much faster a narrower
    layer is depends on the kernels.

    ## Fix
    First the reason: a learning rate that is too high early on kills ReLUs; a warm-up, a
    normalising layer before them, or another activation (leaky ReLU, GELU) keeps them alive. If the
    result is good all the same the network may be narrower: remove the channels for real, with
    `torch.nn.utils.prune.ln_structured` to choose them and smaller layers built from what is left.
    Zeros scattered in the weights speed up nothing: dense kernels multiply by them.

    ## Fix safety
    Semantics: another network, or another training.

    ## When it is wrong
    Inputs that the sampled steps did not hold (a rare class, a stage of a curriculum) may wake a
    channel up. Silent in the first 100 updates, for networks that are pruned, masked or
    parametrized (sparse by design), where channels are rarely active by design (sparse
    autoencoders), for embeddings and frozen layers, and on accelerators, whose activations are not
    read. An activation between residual sums is not attributed to a layer, and not counted.

    ## References
    - Lu et al., Dying ReLU and Initialization: https://arxiv.org/abs/1903.06733
    - torch.nn.utils.prune: https://docs.pytorch.org/tutorials/intermediate/pruning_tutorial.html
    - Li et al., Pruning Filters for Efficient ConvNets: https://arxiv.org/abs/1608.08710
    """

    id = "comp-dead-units"
    title = "Many channels of the network give nothing"
    needs = (
        "units.dead_layers",
        "units.dead_share",
        "units.dead_layer_work_share",
        "units.idle_work_share",
        "units.first_update",
        "units.sparse",
    )
    can_warn = False
    fires_on = (
        Case("ReLUs that died in most of a network", _DYING, severity="info"),
        Case(
            "convolutions whose channels have no weights",
            {**_DYING, "units.dead_kind": "without weights", "units.zero_share": 0.5},
            severity="info",
        ),
    )
    silent_on = (
        Case("pruned on purpose", {**_DYING, "units.sparse": True}),
        Case("right after the start", {**_DYING, "units.first_update": 30}),
        Case("in a small layer only", {**_DYING, "units.dead_layer_work_share": 0.04}),
        Case("few channels", {**_DYING, "units.dead_share": 0.1}),
    )

    min_dead_share = 0.20
    """Part of the channels of such layers (a starting value)."""
    min_work_share = 0.20
    """Part of the work that these layers hold (a starting value)."""
    min_first_update = 100
    """Updates before the sampled steps that count."""

    def applies(self, signals: Signals) -> bool:
        """False where no layer has so many dead channels."""
        return text(signals, "units.dead_layers") is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares what is dead with the thresholds."""
        dead = needed(signals, "units.dead_share")
        share = needed(signals, "units.dead_layer_work_share")
        if is_on(signals, "units.sparse") or dead < self.min_dead_share:
            return
        if share < self.min_work_share:
            return
        if needed(signals, "units.first_update") < self.min_first_update:
            return
        kind = text(signals, "units.dead_kind") or "dead"
        was = f"were {kind}" if kind != "without weights" else "have weights of zero"
        idle = percent(needed(signals, "units.idle_work_share"))
        of = text(signals, "units.work") or "the work of its convolutions and linear layers"
        steps = number(signals, "units.sampled_steps")
        when = "" if steps is None or kind != "never active" else " on the sampled steps"
        yield Candidate(
            summary=f"{percent(dead)} of the output channels of "
            f"{text(signals, 'units.dead_layers')} {was}{when}: {idle} of {of} go into them.",
            evidence=(
                *observed(signals, "units.dead_share", self.min_dead_share),
                *observed(signals, "units.dead_layer_work_share", self.min_work_share),
                *observed(signals, "units.idle_work_share"),
                *observed(signals, "units.dead_kind"),
                *observed(signals, "units.zero_share"),
                *observed(signals, "units.sampled_steps"),
                *observed(signals, "units.first_update", self.min_first_update),
            ),
            where=place(signals, "model.where"),
            fixes=(
                FixAdvice(
                    fix="dead-channels",
                    params={},
                    safety="semantics",
                    text="Find out what kills them (a learning rate too high early on, no "
                    "normalisation before the ReLU); if the result is good all the same, build the "
                    "layers narrower. Scattered zeros alone make dense kernels no faster.",
                    code='torch.nn.utils.prune.ln_structured(layer, "weight", amount=0.3, n=2, '
                    "dim=0)",
                ),
            ),
            severity="info",
            confidence="low",
            timeless=True,
        )
