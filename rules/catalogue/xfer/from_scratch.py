"""xfer-from-scratch."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Location
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import is_on, needed, number, observed, place, text
from trainprof.rules.rule import Candidate, Case, Rule
from trainprof.rules.source_calls import calls

_PHOTOGRAPHS = {
    "start.architecture": "torchvision.models.resnet.ResNet",
    "start.parameter_count": 11_181_642,
    "start.parameter_share": 1.0,
    "start.norms": 20,
    "start.untouched_share": 1.0,
    "start.input_channels": 3,
    "start.models": 1,
    "batch.image_side": 224,
    "loader.dataset_length": 8_000,
    "loader.iterable": False,
    "model.where": {"file": "train.py", "line": 12},
}
_REVIEWS = {
    "start.architecture": "transformers.models.bert.modeling_bert.BertForSequenceClassification",
    "start.parameter_count": 109_483_778,
    "start.parameter_share": 1.0,
    "start.norms": 25,
    "start.untouched_share": 1.0,
    "start.vocabulary": 30_522,
    "start.models": 1,
    "loader.dataset_length": 25_000,
}

VOCABULARIES = frozenset(
    (
        *(28_996, 30_522, 105_879, 119_547),  # BERT: cased, uncased, multilingual
        *(50_265, 250_002),  # RoBERTa, XLM-RoBERTa
        *(30_000, 32_000, 50_257, 128_100),  # ALBERT, XLNet, GPT-2, DeBERTa-v3
    )
)
"""Sizes of published tokenizers (`vocab_size` of the models' config.json on the Hugging Face Hub):
a text classifier of this size reads the tokens that published weights were trained on."""

CLASSIFIERS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForMultipleChoice",
)
"""Ends of class names of transformers that are not for pretraining."""


class FromScratch(Rule):
    """A published architecture is trained from random weights on few samples.

    ## What it finds
    A model of torchvision, timm or transformers that began with the weights of its constructor, on
    a data set of less than 100,000 photographs or texts, of a kind that published weights were
    trained on.

    ## Why it costs time
    The first layers of such a network learn much the same whatever the task: edges and textures, or
    words and grammar. Published weights know it already, from millions of samples. Fewer epochs are
    then expected to reach the same result, and with few samples often a better one; how many fewer
    cannot be told from this run.

    ## Evidence needed
    - The class of the trained model, or of a part that holds half of its parameters or more,
      belongs to one of the three libraries, by the name of its module, and no parameter is frozen.
    - Before the first update every normalising layer of it (two or more, on the CPU) held exactly
      what its constructor writes: weights of one or zero, biases of zero. Nothing trained or loaded
      has these, by whatever call it was loaded.
    - The data set has a length, below 100,000.
    - Published weights would fit. For images: three channels, sides of at least 64 pixels, two
      million parameters or more. For texts: a classifier of transformers with ten million
      parameters or more and the vocabulary of a published tokenizer.

    It is a note without a number.

    ## Fix
    Pass `weights="DEFAULT"` (torchvision), `pretrained=True` (timm) or use `from_pretrained`
    (transformers), and replace the head. Train the head first, then all of it with a smaller
    learning rate, smaller still for the first layers.

    ## Fix safety
    Semantics: another start, hence another model.

    ## When it is wrong
    Images that are none of photographs (spectra, medical volumes, board games) gain less or
    nothing. Where the architecture itself is studied, where weights of other people may not be
    used, or a self-supervised method is to learn without them, random weights are the point. Silent
    for language models, for several models that train together, beside frozen ones (a student and
    its teacher), for resumed runs, for other inputs than those the weights were trained on, and on
    accelerators, whose memory is not read.

    ## References
    - torchvision, models and pretrained weights: https://docs.pytorch.org/vision/stable/models.html
    - Transfer learning tutorial:
      https://docs.pytorch.org/tutorials/beginner/transfer_learning_tutorial.html
    - Kornblith et al., Do Better ImageNet Models Transfer Better?: https://arxiv.org/abs/1805.08974
    - He et al., Rethinking ImageNet Pre-training (with enough data and time, random weights catch
      up): https://arxiv.org/abs/1811.08883
    """

    id = "xfer-from-scratch"
    title = "A known network begins with random weights"
    needs = (
        "start.architecture",
        "start.parameter_count",
        "start.parameter_share",
        "start.norms",
        "start.untouched_share",
        "start.models",
        "loader.dataset_length",
    )
    can_warn = False
    fires_on = (
        Case("a ResNet-18 on 8,000 photographs", _PHOTOGRAPHS, severity="info"),
        Case("BERT as a classifier of 25,000 reviews", _REVIEWS, severity="info"),
    )
    silent_on = (
        Case("pretrained weights under a new head", {**_PHOTOGRAPHS, "start.untouched_share": 0.0}),
        Case("a pretrained backbone, new neck", {**_PHOTOGRAPHS, "start.untouched_share": 0.3}),
        Case("half a million samples", {**_PHOTOGRAPHS, "loader.dataset_length": 500_000}),
        Case("small pictures", {**_PHOTOGRAPHS, "batch.image_side": 32}),
        Case("twelve channels", {**_PHOTOGRAPHS, "start.input_channels": 12}),
        Case("a model without normalising layers", {**_PHOTOGRAPHS, "start.norms": 0}),
        Case("a network of the user's, mostly", {**_PHOTOGRAPHS, "start.parameter_share": 0.2}),
        Case("a small version", {**_PHOTOGRAPHS, "start.parameter_count": 300_000}),
        Case("beside a frozen teacher", {**_PHOTOGRAPHS, "frozen.parameter_count": 23_000_000}),
        Case("two models that train together", {**_PHOTOGRAPHS, "start.models": 2}),
        Case("a stream with a length", {**_PHOTOGRAPHS, "loader.iterable": True}),
        Case("a tokenizer of one's own", {**_REVIEWS, "start.vocabulary": 4_096}),
        Case("a tiny BERT", {**_REVIEWS, "start.parameter_count": 4_400_000}),
        Case(
            "pretraining of a language model",
            {
                **_REVIEWS,
                "start.architecture": "transformers.models.gpt2.modeling_gpt2.GPT2LMHeadModel",
                "start.vocabulary": 50_257,
            },
        ),
        Case(
            "a classifier on top of features that are no pictures",
            {**_PHOTOGRAPHS, "batch.image_side": None},
        ),
    )

    max_samples = 100_000
    """Above that a training from random weights may well reach the same (a starting value)."""
    min_norms = 2
    """Normalising layers that were read; fewer prove little."""
    min_untouched_share = 1.0
    """All of them."""
    min_parameter_share = 0.5
    """Part of the trained model that is the published architecture."""
    min_image_parameters, min_text_parameters = 2_000_000, 10_000_000
    """Smaller networks are made for a purpose, and few have published weights."""
    image_channels = 3
    """Colours of a photograph."""
    min_image_side = 64
    """Pixels; published weights were trained at about 224, and fit badly far below."""

    def applies(self, signals: Signals) -> bool:
        """False where the model is none of a library's."""
        return text(signals, "start.architecture") is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Asks whether the start was random, the data few, and published weights would fit."""
        architecture = text(signals, "start.architecture") or ""
        samples = needed(signals, "loader.dataset_length")
        if not self._is_from_scratch(signals) or not self._fits(signals, architecture):
            return
        if samples >= self.max_samples or is_on(signals, "loader.iterable"):
            return
        library, name = architecture.partition(".")[0], architecture.rpartition(".")[2]
        yield Candidate(
            summary=f"{name} of {library} began with random weights and is trained on "
            f"{samples:,.0f} samples; from published weights fewer epochs are expected to do.",
            evidence=(
                *observed(signals, "start.architecture"),
                *observed(signals, "start.untouched_share", self.min_untouched_share),
                *observed(signals, "start.norms", self.min_norms),
                *observed(signals, "loader.dataset_length", self.max_samples),
                *observed(signals, "batch.image_side", self.min_image_side),
                *observed(signals, "start.vocabulary"),
            ),
            where=_made_at(signals, library, name) or place(signals, "model.where"),
            fixes=(self._advice(library),),
            severity="info",
            confidence="low",
            timeless=True,
        )

    def _is_from_scratch(self, signals: Signals) -> bool:
        return (
            needed(signals, "start.models") == 1
            and needed(signals, "start.norms") >= self.min_norms
            and needed(signals, "start.untouched_share") >= self.min_untouched_share
            and needed(signals, "start.parameter_share") >= self.min_parameter_share
            and not number(signals, "frozen.parameter_count")
        )

    def _fits(self, signals: Signals, architecture: str) -> bool:
        """Whether input and size are those of published weights."""
        parameters = needed(signals, "start.parameter_count")
        if architecture.endswith(CLASSIFIERS):
            known = number(signals, "start.vocabulary") in VOCABULARIES
            return known and parameters >= self.min_text_parameters
        images = architecture.endswith("ForImageClassification")
        if architecture.startswith("transformers.") and not images:
            return False
        channels = number(signals, "start.input_channels")
        side = number(signals, "batch.image_side")
        return (
            parameters >= self.min_image_parameters
            and channels == self.image_channels
            and side is not None
            and side >= self.min_image_side
        )

    @staticmethod
    def _advice(library: str) -> FixAdvice:
        code = {
            "torchvision": 'torchvision.models.…(weights="DEFAULT")',
            "timm": "timm.create_model(name, pretrained=True, num_classes=classes)",
        }
        return FixAdvice(
            fix="pretrained-weights",
            params={"library": library},
            safety="semantics",
            text="Begin with published weights and a new head; train the head first, then all of "
            "it with a smaller learning rate.",
            code=code.get(library, "AutoModel….from_pretrained(name, num_labels=labels)"),
        )


def _made_at(signals: Signals, library: str, name: str) -> Location | None:
    """The line of the user's that calls the class, where there is one such line."""
    found = [*calls(signals, f"{library}.{name}"), *calls(signals, f"{library}.models.{name}")]
    return found[0].where if len(found) == 1 else None
