"""Sentence classifier; the tokenizer is trained on the fly, texts are tokenized per batch."""

import os
import random
import time

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, trainers
from torch import nn
from torch.utils.data import DataLoader
from transformers import PreTrainedTokenizerFast

os.environ["TOKENIZERS_PARALLELISM"] = "false"
MAX_LEN = 128


def make_corpus(n):
    rng = random.Random(7)
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(rng.choices(letters, k=rng.randint(3, 11))) for _ in range(3000)]
    texts = [" ".join(rng.choices(words, k=110)) for _ in range(n)]
    return texts, [rng.randint(0, 3) for _ in range(n)]


def make_tokenizer(texts):
    core = Tokenizer(models.BPE(unk_token="[UNK]"))
    core.normalizer = normalizers.Sequence([normalizers.NFD(), normalizers.Lowercase()])
    core.pre_tokenizer = pre_tokenizers.Whitespace()
    trainer = trainers.BpeTrainer(
        vocab_size=900, special_tokens=["[PAD]", "[UNK]"], show_progress=False
    )
    core.train_from_iterator(texts[:200], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=core, pad_token="[PAD]", unk_token="[UNK]")


class BagOfTokens(nn.Module):
    def __init__(self, vocab, classes):
        super().__init__()
        self.emb = nn.EmbeddingBag(vocab, 128, mode="mean")
        self.net = nn.Sequential(nn.Linear(128, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU())
        self.head = nn.Linear(512, classes)

    def forward(self, ids):
        return self.head(self.net(self.emb(ids)))


def encode(tokenizer, texts):
    return tokenizer(
        texts, truncation=True, max_length=MAX_LEN, padding="max_length", return_tensors="pt"
    )["input_ids"]


def main():
    random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    texts, labels = make_corpus(640)
    tokenizer = make_tokenizer(texts)
    model = BagOfTokens(len(tokenizer), 4)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    samples = list(zip(texts, labels, strict=True))
    loader = DataLoader(samples, batch_size=32, shuffle=True)
    start = time.perf_counter()
    for epoch in range(12):
        for text, label in loader:
            ids = encode(tokenizer, list(text))
            loss = nn.functional.cross_entropy(model(ids), label)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch} loss {loss.item():.3f}")
    print(f"done in {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
