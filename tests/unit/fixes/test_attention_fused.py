"""Attention by the fused operator: only where nobody looks at the weights."""

from __future__ import annotations

import sys

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

needs_positions = pytest.mark.skipif(
    sys.version_info < (3, 11), reason="which call is meant is not known before Python 3.11"
)


class Encoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.attention = nn.MultiheadAttention(16, 2, dropout=0.1, batch_first=True)
        self.head = nn.Linear(16, 1)
        self.given = []

    def attend(self, x):
        out, _ = self.attention(x, x, x)
        return out

    def forward(self, x):
        return self.head(self.attend(x)).mean((1, 2))


class First(Encoder):
    def attend(self, x):
        return self.attention(x, x, self.head.weight.new_zeros(()) + x, need_weights=True)[0]


class Masked(Encoder):
    def attend(self, x):
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        return self.attention(x, x, x, None, True, mask)[0]


class Reading(Encoder):
    def attend(self, x):
        out, weights = self.attention(x, x, x)
        self.given.append(weights)
        return out


class Returning(Encoder):
    def attend(self, x):
        return self.both(x)[0]

    def both(self, x):
        return self.attention(x, x, x)


class Regularised(Encoder):
    def attend(self, x):
        out, _ = self.attention(x, x, x)
        return out + _.mean()


def train(kind=Encoder, prepare=lambda model: None, steps=6):
    torch.manual_seed(0)
    model = kind()
    prepare(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        x = torch.randn(4, 8, 16)
        loss = (model(x) - x.mean((1, 2))).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model


@needs_positions
@pytest.mark.parametrize("kind", [Encoder, First, Masked])
def test_weights_that_are_dropped_are_not_computed(apply, kind):
    plain, _ = train(kind)
    applied = apply("attention-fused")
    losses, _ = train(kind)
    assert losses == pytest.approx(plain, rel=1e-5)
    assert applied.read() == (True, {"models": 0, "calls": 6, "with_weights": 0}, None)


def hook(model):
    model.attention.register_forward_hook(lambda module, args, out: model.given.append(out[1]))


@pytest.mark.parametrize(
    ("kind", "prepare"),
    [
        (Reading, lambda model: None),
        (Returning, lambda model: None),
        (Regularised, lambda model: None),
        (Encoder, hook),
    ],
)
def test_weights_that_are_wanted_are_computed(apply, kind, prepare):
    plain, _ = train(kind, prepare)
    applied = apply("attention-fused")
    losses, model = train(kind, prepare)
    assert losses == plain
    assert None not in model.given
    seen = {"models": 0, "calls": 0, "with_weights": 6}
    assert applied.read() == (False, seen, "the script keeps the attention weights")


class Config:
    def __init__(self, implementation="eager", **options):
        self._attn_implementation = implementation
        self.__dict__.update(options)


class Pretrained(nn.Module):
    """The part of a model of transformers that the switch needs."""

    _supports_sdpa = True

    def __init__(self, config):
        super().__init__()
        self.config, self.linear = config, nn.Linear(4, 1)

    def set_attn_implementation(self, name):
        self.config._attn_implementation = name

    def forward(self, x, output_attentions=False):
        assert not output_attentions or self.config._attn_implementation == "eager"
        return self.linear(x)


class Older(Pretrained):
    _supports_sdpa = False


def test_a_model_of_transformers_is_switched_and_back(apply):
    applied = apply("attention-fused")
    model = Pretrained(Config())
    model(torch.ones(2, 4))
    assert model.config._attn_implementation == "sdpa"
    assert applied.read() == (True, {"models": 1, "calls": 0, "with_weights": 0}, None)
    applied.undo()
    assert model.config._attn_implementation == "eager"


def test_weights_that_are_asked_for_later(apply):
    applied = apply("attention-fused")
    model = Pretrained(Config())
    model(torch.ones(2, 4))
    model(torch.ones(2, 4), output_attentions=True)
    model(torch.ones(2, 4))
    assert model.config._attn_implementation == "eager"
    assert applied.read()[::2] == (
        False,
        "the script asks for attention weights (output_attentions)",
    )


@pytest.mark.parametrize(
    ("kind", "config", "reason"),
    [
        (Pretrained, Config(output_attentions=True), "gives attention weights"),
        (Older, Config(), "Older has no fused attention"),
        (Pretrained, Config("flash_attention_2"), "no attention of a library"),
    ],
)
def test_models_without_the_switch(apply, kind, config, reason):
    before = config._attn_implementation
    applied = apply("attention-fused")
    kind(config)(torch.ones(2, 4))
    assert config._attn_implementation == before
    active, _, why = applied.read()
    assert active is False
    assert reason in why


@pytest.mark.slow
@pytest.mark.loops
def test_a_real_model_of_transformers(apply):
    transformers = pytest.importorskip("transformers")
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 16, "vocab_size": 50}

    def losses():
        torch.manual_seed(0)
        config = transformers.GPT2Config(**sizes, bos_token_id=0, eos_token_id=0)
        model = transformers.GPT2LMHeadModel._from_config(config, attn_implementation="eager")
        model.train()
        ids = torch.randint(0, 50, (2, 16))
        return model(input_ids=ids, labels=ids).loss.item(), model

    plain, _ = losses()
    applied = apply("attention-fused")
    fused, model = losses()
    assert model.config._attn_implementation == "sdpa"
    assert fused == pytest.approx(plain, rel=1e-5)
    assert applied.read()[0] is True
