"""What the probe finds inside an item: calls, files, text, images, padding, copies."""

import json
import time

import numpy as np
import pytest
import torch
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Subset

from trainprof.profiler.probe.scratch.duplicates import Contents
from trainprof.profiler.probe.scratch.images import measure_decoding
from trainprof.profiler.probe.scratch.items import Items
from trainprof.profiler.probe.scratch.lengths import measure_padding
from trainprof.profiler.probe.scratch.meter import Meter
from trainprof.profiler.probe.scratch.parts import measure_batch_tokens, measure_parts
from trainprof.profiler.probe.scratch.sketches import sketch
from trainprof.profiler.probe.scratch.text import is_text, makes_numbers

METER = Meter()  # its audit hook stays for good
TEXTS = [f"the {n} quick brown foxes jump over the lazy dog " * 10 for n in range(40)]


def busy(seconds):
    """Work without calls: the cost of watching thousands of them would be all there is."""
    sum(range(round(seconds * 5e7)))


class Part:
    """A transform."""

    def __init__(self, seconds):
        self.seconds = seconds

    def __call__(self, item):
        busy(self.seconds)
        return item


class Slow(Part):
    def __call__(self, item):
        return super().__call__(item)


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, item):
        for transform in self.transforms:
            item = transform(item)
        return item


class Made:
    def __init__(self, make, length=12):
        self.make = make
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        return self.make(index)


class Chained(Made):
    def __getitem__(self, index):
        return self.make(index)


def parts_of(dataset, item_s=0.01):
    return measure_parts(Items(dataset, METER), METER, time.perf_counter() + 2, item_s)


def test_the_transforms_of_a_chain_are_named():
    found = parts_of(Chained(Compose([Part(0.0002), Slow(0.002)])))
    seconds = {part["name"]: part["s"] for part in found["parts"]}
    assert set(seconds) == {"Slow.__call__", "Part.__call__"}
    assert 0.0 < max(seconds.values()) <= 0.01


def test_a_subset_is_looked_through():
    found = parts_of(Subset(Made(lambda index: busy(0.001)), range(6)))
    assert any("lambda" in part["name"] for part in found["parts"])


def words(text):
    return [len(word) for word in text.split()]


@pytest.mark.parametrize(
    ("make", "tokenizes"),
    [
        (lambda index: torch.tensor(words(TEXTS[index])), True),
        (lambda index: [len(word) for word in TEXTS[index].split()], True),
        (lambda index: (TEXTS[index], 1), False),
        (lambda index: torch.zeros(3, dtype=torch.int64), False),
        (lambda index: [float(len(word)) for word in TEXTS[index].split()], False),
    ],
    ids=["function", "in place", "text only", "numbers only", "no integers"],
)
def test_text_in_and_numbers_out_is_tokenizing(make, tokenizes):
    found = parts_of(Made(make))
    assert (found["item_token_s"] > 0.0) is tokenizes
    if tokenizes:
        assert found["token_where"]["file"] == __file__


def test_tokenizing_in_the_collate_function_is_its_own():
    def collate(texts):
        busy(0.002)
        return [words(text) for text in texts]

    found = measure_batch_tokens(collate, TEXTS[:8], METER, 1.0)
    assert 0.0 < found["collate_token_s"] < 1.0
    assert found["token_function"] == "words"


def test_paths_and_pictures_are_no_text_and_no_tokens():
    assert not is_text("/data/train/picture_000001.jpg")
    assert is_text(["several words of a text"])
    assert not makes_numbers(np.zeros((8, 8), dtype=np.uint8))
    assert not makes_numbers(torch.tensor(3))
    assert makes_numbers({"input_ids": [1]})


def test_files_are_timed_where_the_users_code_calls(tmp_path):
    for index in range(12):
        np.save(tmp_path / f"{index}.npy", np.zeros(20))

    def make(index):
        busy(0.0005)
        return np.load(tmp_path / f"{index}.npy")

    found = parts_of(Made(make))
    assert 0.0 < found["item_file_s"] <= 0.01
    assert found["file_where"]["function"] == "make"


def rows(lengths):
    return Made(lambda index: torch.arange(1, lengths[index] + 1), len(lengths))


def padding(dataset, collate, batch=4):
    order = [list(range(s, s + batch)) for s in range(0, len(dataset) - batch + 1, batch)]
    return measure_padding(Items(dataset, METER), collate, order, batch, time.perf_counter() + 2)


LENGTHS = [10, 2, 2, 2, 10, 2, 2, 2]


def to_longest(samples):
    return pad_sequence(samples, batch_first=True)


def transposed(samples):
    return pad_sequence(samples)


def to_twenty(samples):
    fixed = torch.zeros(len(samples), 20, dtype=torch.long)
    for row, sample in zip(fixed, samples, strict=True):
        row[: len(sample)] = sample
    return fixed


def masked(samples):
    ids = to_twenty(samples)
    return {"input_ids": torch.ones_like(ids), "attention_mask": (ids > 0).long()}


@pytest.mark.parametrize(
    ("collate", "share", "longest", "varies"),
    [
        (to_longest, 0.6, 0.6, False),
        (transposed, 0.6, 0.6, False),
        (to_twenty, 0.8, 0.6, False),
        (masked, 0.8, 0.6, False),
    ],
)
def test_padding_is_counted(collate, share, longest, varies):
    found = padding(rows(LENGTHS), collate)
    assert found["padding_share"] == pytest.approx(share)
    assert found["padding_share_to_longest"] == pytest.approx(longest)
    assert found["padding_share_grouped"] == pytest.approx(1 - 32 / (4 * 2 + 4 * 10))
    assert found["padded_length_varies"] is varies


def test_rows_that_come_padded_are_told_by_their_equal_ends():
    dataset = Made(lambda index: to_twenty([torch.arange(1, LENGTHS[index] + 1)])[0], 8)
    assert padding(dataset, torch.stack)["padding_share"] == pytest.approx(0.8)


@pytest.mark.parametrize(
    "dataset",
    [
        rows([6] * 8),
        Made(lambda index: torch.tensor(index), 8),
        Made(lambda index: torch.rand(3, 8, 8), 8),
        Made(lambda index: torch.randint(1, 99, (12,)), 8),
        Made(lambda index: torch.nn.functional.one_hot(torch.tensor(index), 30), 8),
        Made(lambda index: torch.zeros(20, dtype=torch.int64), 8),
    ],
    ids=["fixed", "numbers", "images", "full rows", "one-hot", "zeros"],
)
def test_data_of_one_length_has_no_padding_to_speak_of(dataset):
    found = padding(dataset, torch.stack)
    assert found is None or found["padding_share"] < 0.02


def test_a_list_of_other_length_beside_fixed_features_is_told_apart():
    dataset = Made(lambda index: (torch.zeros(30), torch.ones(1 + index % 2)), 8)

    def collate(samples):
        features, tags = zip(*samples, strict=True)
        return torch.stack(features), pad_sequence(tags, batch_first=True)

    assert padding(dataset, collate) is None  # tags of two places are no sequences


def test_decoded_and_delivered_pixels(tmp_path):
    image = pytest.importorskip("PIL.Image")
    for index in range(4):
        image.new("RGB", (200, 100), (index, 0, 0)).save(tmp_path / f"{index}.png")

    def make(index):
        small = image.open(tmp_path / f"{index}.png").convert("RGB").resize((20, 10))
        return torch.from_numpy(np.array(small)).permute(2, 0, 1), index

    items = Items(Made(make, 4), METER)
    load = sys_modules_load()
    found = measure_decoding(items, time.perf_counter() + 2, 0.01)
    assert (found["decoded_pixels"], found["delivered_pixels"]) == (20_000, 200)
    assert 0 < found["decode_s"] < 0.01
    assert found["image_format"] == "PNG"
    assert sys_modules_load() is load


def sys_modules_load():
    from PIL import ImageFile

    return ImageFile.ImageFile.load


def test_without_images_there_is_nothing_to_say():
    items = Items(Made(lambda index: torch.zeros(3)), METER)
    assert measure_decoding(items, time.perf_counter() + 1, 0.01) is None


def copies(make, length, seconds=2.0):
    items = Items(Made(make, length), METER)
    return Contents(torch, items).measure(time.perf_counter() + seconds)


def test_copies_are_counted_in_spite_of_augmentation():
    found = copies(lambda index: torch.full((2,), index % 75) + torch.rand(2), 100)
    assert found == {
        "hashed_items": 100,
        "hashed_all": True,
        "hashed_at_random": True,
        "distinct_items": 75,
        "equal_pairs": 25,
    }


@pytest.mark.parametrize(
    ("make", "length"), [(lambda index: object(), 100), (lambda index: index, 10)]
)
def test_what_cannot_be_compared_or_is_too_little_says_nothing(make, length):
    assert copies(make, length) is None


def test_items_of_the_validation_are_looked_up_among_those_of_the_training():
    contents = Contents(torch, Items(Made(lambda index: torch.full((2,), index), 80), METER))
    until = time.perf_counter() + 2
    contents.measure(until)
    held_out = Items(Made(lambda index: torch.full((2,), index + 70), 60), METER)
    assert contents.compare(held_out, until) == {
        "validation_length": 60,
        "validation_hashed": 60,
        "validation_known": 10,
        "validation_all": True,
    }
    few = Items(Made(lambda index: torch.full((2,), index), 20), METER)
    assert contents.compare(few, until) is None


def sketched(*items):
    return [sketch(torch, item) for item in items]


def test_a_text_is_known_by_its_runs_of_three_words():
    words = " ".join(f"word{n}" for n in range(40))
    plain, shouted, other, short = sketched(words, (words.upper(), 3), words[::-1], "a few words")
    assert plain == shouted != other
    assert len(plain["runs"]) == 38
    assert short is None
    tensor, numbers = sketched(torch.arange(40), {"input_ids": list(range(40))})
    assert tensor == numbers


def test_an_image_is_known_by_its_greys_in_every_form():
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(3, 36, 36, generator=generator)
    last = image.permute(1, 2, 0).numpy()
    stored = (image * 255).byte()
    forms = [made["grey"] for made in sketched(image, last, stored, (stored, 1))]
    assert all(len(grey) == 81 and max(grey) == 255 and min(grey) == 0 for grey in forms)
    for grey in forms[1:]:
        assert max(abs(a - b) for a, b in zip(forms[0], grey, strict=True)) <= 3


@pytest.mark.parametrize(
    "item",
    [torch.zeros(3, 40, 40), torch.rand(3, 8, 8), torch.rand(20, 50), torch.rand(64), 5, None],
    ids=["flat", "small", "features", "row", "number", "nothing"],
)
def test_what_is_neither_text_nor_image_has_no_sketch(item):
    assert sketch(torch, item) is None


def test_sketches_are_written_beside_the_journal(tmp_path):
    items = Items(Made(lambda index: torch.arange(index, index + 30), 60), METER)
    Contents(torch, items).measure(time.perf_counter() + 2, str(tmp_path / "sketches"))
    lines = (tmp_path / "sketches").read_text().splitlines()
    assert len(lines) == 60
    assert set(json.loads(lines[0])) == {"runs", "code"}
