"""xfer-lora."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import needed, number, observed, percent, place, text
from trainprof.rules.rule import Candidate, Case, Rule

WORDS = ("transformer", "bert", "gpt", "llama", "mistral", "qwen", "gemma")


class Lora(Rule):
    """All of a large transformer is trained, and gradients and optimizer state fill the memory.

    ## What it finds
    A model of at least 100 million parameters, nearly all of them trained, of a transformers class
    or one that is named like a transformer, while gradients and optimizer state take 40 % of the
    memory and little of it is left.

    ## Why it costs time
    In mixed precision Adam needs about 18 bytes for each trained parameter. Adapters of low rank
    train a thousandth of them: the authors of LoRA needed a third of the memory for GPT-3 and
    trained faster. What that gives a step depends on the batch that the room allows, so no gain is
    predicted, and it is a note.

    ## Evidence needed
    - 100 million parameters or more, at least 90 % of them trained.
    - Gradients and state of at least 40 % of the memory there is, and peak memory of at least 90 %.
    - A class of the library transformers, or one named like a transformer. That it was pretrained
      is not known.

    ## Fix
    `model = peft.get_peft_model(model, peft.LoraConfig(...))`.

    ## Fix safety
    Semantics: another model is trained, and its quality has to be measured.

    ## When it is wrong
    In pretraining, and where full fine-tuning is worth its price.

    ## References
    - Hu et al., LoRA: https://arxiv.org/abs/2106.09685
    - PEFT: https://huggingface.co/docs/peft
    - Memory of a training, by part:
      https://github.com/stas00/ml-engineering/blob/master/training/performance/README.md
    """

    id = "xfer-lora"
    title = "Full fine-tuning at the limit of the memory"
    needs = ("model.parameter_count", "headroom.gradients_and_state_share", "headroom.peak_share")
    can_warn = False
    fires_on = (
        Case(
            "a language model of 1.1 billion parameters on a full device",
            {
                "model.parameter_count": 1_100_000_000,
                "model.trainable_count": 1_100_000_000,
                "model.type": "transformers.models.llama.modeling_llama.LlamaForCausalLM",
                "headroom.gradients_and_state_share": 0.6,
                "headroom.peak_share": 0.95,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "with adapters already",
            {
                "model.parameter_count": 1_100_000_000,
                "model.trainable_count": 4_000_000,
                "model.type": "peft.peft_model.PeftModelForCausalLM",
                "headroom.gradients_and_state_share": 0.01,
                "headroom.peak_share": 0.95,
            },
        ),
        Case(
            "room is left",
            {
                "model.parameter_count": 1_100_000_000,
                "model.trainable_count": 1_100_000_000,
                "model.type": "transformers.models.llama.modeling_llama.LlamaForCausalLM",
                "headroom.gradients_and_state_share": 0.45,
                "headroom.peak_share": 0.6,
            },
        ),
        Case(
            "a large convolutional network",
            {
                "model.parameter_count": 200_000_000,
                "model.trainable_count": 200_000_000,
                "model.type": "models.WideResNet",
                "headroom.gradients_and_state_share": 0.5,
                "headroom.peak_share": 0.95,
            },
        ),
    )

    min_parameters = 100_000_000
    """Elements; smaller models fit (a starting value)."""
    min_trainable_part = 0.9
    """Of the elements: full fine-tuning (a starting value)."""
    min_held_share = 0.40
    """Gradients and state, of the memory there is (a starting value)."""
    min_peak_share = 0.90
    """From here on memory is short (TraceML warns at 0.92, the Kineto plugin at 0.90)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Size, share and kind."""
        count = needed(signals, "model.parameter_count")
        trainable = number(signals, "model.trainable_count") or 0.0
        held = needed(signals, "headroom.gradients_and_state_share")
        if count < self.min_parameters or trainable < self.min_trainable_part * count:
            return
        if (
            held < self.min_held_share
            or needed(signals, "headroom.peak_share") < self.min_peak_share
        ):
            return
        kind = (text(signals, "model.type") or "").lower()
        if not any(word in kind for word in WORDS):
            return
        yield Candidate(
            summary=f"Gradients and optimizer state of {count / 1e6:,.0f} million trained "
            f"parameters take {percent(held)} of the memory.",
            evidence=(
                *observed(signals, "headroom.gradients_and_state_share", self.min_held_share),
                *observed(signals, "headroom.peak_share", self.min_peak_share),
                *observed(signals, "model.parameter_count", self.min_parameters),
                *observed(signals, "model.trainable_count"),
                *observed(signals, "model.type"),
            ),
            where=place(signals, "model.where"),
            fixes=(
                FixAdvice(
                    fix="lora",
                    params={},
                    safety="semantics",
                    text="Use adapters of low rank if the model was pretrained.",
                    code="model = peft.get_peft_model(model, peft.LoraConfig(r=8))",
                ),
            ),
            confidence="low",
            severity="info",
            timeless=True,
        )
