"""Texts that are tokenized once: the same numbers as ever, or a refusal that says why."""

from __future__ import annotations

import pickle
import sys

import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader  # noqa: E402

from trainprof.profiler.model.plan import Target  # noqa: E402
from trainprof.rules.fixes.ready_rows import ReadyRows  # noqa: E402
from trainprof.rules.fixes.same_values import same_values  # noqa: E402

WORDS = [f"w{i}" for i in range(50)]
TEXTS = [" ".join(WORDS[(i * k) % 50] for k in range(3, 6 + i % 9)) for i in range(24)]

SCRIPT = """
    {more}

    def tokenize(text, vocabulary):
        {first}
        return {result}

    class Texts(Dataset):
        def __init__(self):
            words = [f"w{{i}}" for i in range(50)]
            self.texts = [" ".join(words[i % 50 :][:8]) for i in range(32)]
            self.vocabulary = {{word: i for i, word in enumerate(words)}}

        def __len__(self):
            return 32

        def __getitem__(self, index):
            return {item}

    torch.manual_seed(0)
    random.seed(0)
    data = Texts()
    model = nn.EmbeddingBag(100, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    collate = lambda samples: torch.tensor([(list(one) + [0] * 8)[:8] for one in samples])
    for epoch in range(3):
        {between}
        for tokens in DataLoader(data, 8, shuffle=True, collate_fn=collate, num_workers={workers}):
            loss = model(tokens).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(loss.item())
"""
PLAIN = {
    "more": "",
    "first": "pass",
    "result": "[vocabulary.get(word, 0) for word in text.split()]",
    "item": "tokenize(self.texts[index], self.vocabulary)",
    "between": "pass",
    "workers": 0,
}


STREAM = """
    from torch.utils.data import IterableDataset

    def tokenize_with(data, text):
        return {of_function}

    class Texts(IterableDataset):
        def __init__(self):
            words = [f"w{{i}}" for i in range(50)]
            self.texts = [" ".join(words[i % 50 :][:8]) for i in range(32)]
            self.vocabulary = {{word: i for i, word in enumerate(words)}}
            self.rounds = 0

        def tokenize(self, text):
            return {of_method}

        def shifted(self):
            return self.rounds

        def __iter__(self):
            {first}
            self.rounds += 1
            for text in self.texts:
                yield {item}

    torch.manual_seed(0)
    data = Texts()
    model = nn.EmbeddingBag(100, 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    collate = lambda samples: torch.tensor([(list(one) + [0] * 8)[:8] for one in samples])
    for epoch in range(3):
        for tokens in DataLoader(data, 8, collate_fn=collate):
            loss = model(tokens).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            print(loss.item())
"""
COUNTED = {
    "of_function": "[data.vocabulary.get(word, 0) for word in text.split()]",
    "of_method": "[self.vocabulary.get(word, 0) for word in text.split()]",
    "first": "pass",
    "item": "self.tokenize(text)",
}
ROUNDS = "the script changes the data set between epochs (rounds)"


@pytest.fixture
def trained(run_script, tmp_path):
    """`trained(**changes)` gives what the script prints, and the line of its tokenizer."""

    def run(body=SCRIPT, function="tokenize", **changes):
        body = body.format(**{**(PLAIN if body is SCRIPT else COUNTED), **changes})
        lines = (run_script.head + body).splitlines()
        (line,) = (number for number, text in enumerate(lines, 1) if f"def {function}(" in text)
        return run_script(body), Target(str(tmp_path / "train.py"), line)

    return run


@pytest.mark.parametrize(
    "changes", [{}, {"result": "torch.tensor([vocabulary.get(w, 0) for w in text.split()])"}]
)
def test_losses_are_equal(apply, trained, changes):
    plain, target = trained(**changes)
    applied = apply("tokenize-once", target=target)
    assert trained(**changes)[0] == plain
    assert applied.read() == (True, {"made": 32, "looked_up": 64, "compared": 8}, None)


def test_workers_share_the_numbers(apply, trained):
    plain, target = trained(workers=2)
    applied = apply("tokenize-once", target=target)
    assert trained(workers=2)[0] == plain
    active, seen, _ = applied.read()
    assert (active, seen["made"], seen["looked_up"]) == (True, 32, 64)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        (
            {"result": "[random.randrange(50) for word in text.split()]"},
            "it draws random numbers",
        ),
        ({"result": "frozenset(range(9))"}, "it returns a builtins.frozenset, which is not kept"),
        (
            {
                "more": "calls = []",
                "first": "calls.append(text)",
                "result": "[len(calls) % 50] * 8",
            },
            "the same text gave other numbers the second time",
        ),
        (
            {"between": "data.vocabulary = {'w1': epoch}"},
            "the script changes the data set between epochs (vocabulary)",
        ),
    ],
)
def test_what_is_refused(apply, trained, changes, reason):
    plain, target = trained(**changes)
    applied = apply("tokenize-once", target=target)
    assert trained(**changes)[0] == plain
    assert applied.read()[::2] == (False, reason)


def test_an_attribute_that_the_function_does_not_read(apply, trained):
    plain, target = trained(STREAM)
    applied = apply("tokenize-once", target=target)
    assert trained(STREAM)[0] == plain
    assert applied.read() == (True, {"made": 32, "looked_up": 64, "compared": 8}, None)


@pytest.mark.parametrize(
    "changes",
    [
        {"of_method": "[self.vocabulary.get(w, 0) + self.rounds for w in text.split()]"},
        {"of_method": "[self.vocabulary.get(w, 0) + self.shifted() for w in text.split()]"},
        {"of_method": "tokenize_with(self, text)"},
        {"item": "tokenize_with(self, text)", "function": "tokenize_with"},
        {"first": "self.me = self"},
    ],
)
def test_an_attribute_that_the_function_may_read(apply, trained, changes):
    plain, target = trained(STREAM, **changes)
    applied = apply("tokenize-once", target=target)
    assert trained(STREAM, **changes)[0] == plain
    assert applied.read()[::2] == (False, ROUNDS)


def test_a_vocabulary_that_grows(apply, trained):
    grows = {
        "result": "[vocabulary.setdefault(word + 'x', len(vocabulary)) for word in text.split()]"
    }
    plain, target = trained(**grows)
    applied = apply("tokenize-once", target=target)
    assert trained(**grows)[0] == plain
    assert applied.read()[0] is not True or applied.read()[1]["looked_up"] <= 64


def test_no_line_and_no_library(apply, trained, monkeypatch):
    monkeypatch.delitem(sys.modules, "transformers.tokenization_utils_base", raising=False)
    applied = apply("tokenize-once")
    trained()
    reason = "transformers is not used; name a function of your own with at=FILE:LINE"
    assert applied.read()[::2] == (False, reason)


def test_a_script_without_a_loader(apply):
    """What is begun at the first update must not disturb torch's own walk over its hooks."""
    applied = apply("tokenize-once")
    seen = []
    hooks = sys.modules["torch.optim.optimizer"]
    others = [hooks.register_optimizer_step_pre_hook(lambda *_: seen.append(1)) for _ in range(2)]
    assert applied.read()[::2] == (None, "nothing was trained yet")
    for _ in range(2):
        torch.optim.SGD([torch.ones(1, requires_grad=True)], lr=0.1).step()
    for other in others:
        other.remove()
    assert len(seen) == 4
    assert applied.read()[2] != "nothing was trained yet"


def test_workers_that_are_spawned(apply):
    applied = apply("tokenize-once")
    applied.fix._on_loader(DataLoader(TEXTS, num_workers=1, multiprocessing_context="spawn"))
    assert applied.read()[::2] == (False, "workers that are not forked share no memory")


@pytest.fixture(scope="module")
def tokenizer():
    tokenizers = pytest.importorskip("tokenizers")
    transformers = pytest.importorskip("transformers")
    vocabulary = {word: i for i, word in enumerate(["[PAD]", "[UNK]", *WORDS])}
    own = tokenizers.Tokenizer(tokenizers.models.WordLevel(vocabulary, unk_token="[UNK]"))
    own.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    return transformers.PreTrainedTokenizerFast(
        tokenizer_object=own, pad_token="[PAD]", unk_token="[UNK]"
    )


ARGUMENTS = [
    {"padding": True, "return_tensors": "pt"},
    {"padding": "longest", "pad_to_multiple_of": 8, "return_tensors": "pt"},
    {"padding": "max_length", "truncation": True, "max_length": 7, "return_tensors": "pt"},
    {"truncation": True, "max_length": 5},
    {},
]


@pytest.mark.parametrize("arguments", ARGUMENTS)
@pytest.mark.parametrize("side", ["right", "left"])
def test_batches_of_a_library(apply, tokenizer, arguments, side):
    tokenizer.padding_side = side

    def batches():
        def collate(texts):
            return tokenizer(texts, **arguments)

        loader = DataLoader(TEXTS, batch_size=4, collate_fn=collate)
        return [dict(batch) for _ in range(4) for batch in loader]

    plain = batches()
    applied = apply("tokenize-once")
    assert same_values(torch, batches(), plain)
    active, seen, reason = applied.read()
    assert (active, reason) == (True, None)
    assert seen["made"] <= len(TEXTS) + 8 * 4
    assert seen["looked_up"] >= 72


@pytest.mark.parametrize("arguments", ARGUMENTS[:3])
def test_ready_rows_are_put_together(apply, tokenizer, arguments):
    """After the batches that are made in the usual way too, texts are not even looked up."""
    tokenizer.padding_side = "right"
    batches = [TEXTS[at : at + 4] for at in range(0, 24, 4)]
    plain = [dict(tokenizer(texts, **arguments)) for texts in batches]
    applied = apply("tokenize-once")
    applied.fix._begin()
    for _ in range(3):
        for texts, expected in zip(batches, plain, strict=True):
            found = tokenizer(texts, **arguments)
            assert same_values(torch, dict(found), expected)
            found["input_ids"].zero_()  # what the script does to its batch
    calls = []
    applied.fix._texts.call = lambda *args, **kwargs: calls.append(args)
    tokenizer(TEXTS[3:9], **arguments)
    assert calls == []
    active, seen, reason = applied.read()
    assert (active, reason) == (True, None)
    assert (seen["made"], seen["looked_up"]) == (24, 54)


def test_a_tokenizer_that_learns_a_word(apply, tokenizer):
    tokenizers = pytest.importorskip("tokenizers")
    tokenizer.padding_side = "right"
    applied = apply("tokenize-once")
    applied.fix._begin()
    arguments = ARGUMENTS[0]
    for _ in range(12):
        before = tokenizer(["w1 w2", "new w3 w4"], **arguments)["input_ids"].tolist()
    own = type(tokenizer)(
        tokenizer_object=tokenizers.Tokenizer.from_str(tokenizer.backend_tokenizer.to_str()),
        pad_token="[PAD]",
        unk_token="[UNK]",
    )
    for _ in range(12):
        assert own(["w1 w2", "new w3 w4"], **arguments)["input_ids"].tolist() == before
    own.add_tokens(["new"])
    after = own(["w1 w2", "new w3 w4"], **arguments)["input_ids"].tolist()
    assert after == [[3, 4, 0], [52, 5, 6]]
    assert before == [[3, 4, 0], [1, 5, 6]]


def test_ready_rows_have_their_limit():
    rows = ReadyRows(torch, most_bytes=1100)
    key = ReadyRows.key(rows, {"truncation": True})
    rows.keep(key, ["a", "b", "c"], [{"input_ids": [1, 2]}] * 3)
    assert rows.find(key, ["a", "b", "a"]) is not None
    assert rows.find(key, ["a", "c"]) is None
    assert rows.find(ReadyRows.key(rows, {"truncation": 1}), ["a"]) is None
    assert ReadyRows.key(rows, {"truncation": [1]}) is None


def test_what_a_library_tells_beside_the_numbers(apply, tokenizer):
    tokenizer.padding_side = "right"
    plain = tokenizer(TEXTS[0])
    apply("tokenize-once").fix._begin()
    for _ in range(12):
        found = tokenizer(TEXTS[0])
        assert type(found) is type(plain)
        assert found.input_ids == plain["input_ids"]
    assert found.word_ids() == plain.word_ids()
    again = pickle.loads(pickle.dumps(tokenizer(TEXTS[0])))
    assert again.tokens() == plain.tokens()
    assert tokenizer(TEXTS[0], TEXTS[1]).sequence_ids() is not None
