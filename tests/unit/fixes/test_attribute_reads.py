"""Names by which a function may read attributes of the object that it is called on."""

from __future__ import annotations

import functools
import operator

import pytest

from trainprof.rules.fixes import attribute_reads
from trainprof.rules.fixes.attribute_reads import attributes_read


def of_module(word):
    return STATE.offset + len(word)


def given(holder, word):
    return holder.rounds, word


class Held:
    offset = 0

    def shift(self, word):
        return self.shifted + len(word)


STATE = Held()


def read_whole(descriptor, holder, kind):
    return holder.rounds


class Descriptor:
    __get__ = read_whole


class Texts:
    described = Descriptor()

    def plain(self, line):
        return [self.ids.get(word, self.unknown) for word in line.split()]

    def inside(self, line):
        return list(map(lambda word: self.ids[word], line))

    def calls(self, line):
        return [self.one(word) for word in line]

    def one(self, word):
        return self.table[word] + self.base

    @property
    def base(self):
        return self.start

    @functools.lru_cache  # noqa: B019
    def kept(self, word):
        return self.deep

    def uses_kept(self, line):
        return self.kept(line)

    @staticmethod
    def still(word):
        return STATE.of_static

    def uses_still(self, line):
        return self.still(line)

    def uses_global(self, line):
        return of_module(line), self.ids

    def uses_library(self, line):
        return operator.length_hint(line), self.ids

    def by_name(self, line):
        return getattr(self, "rounds")  # noqa: B009

    def by_dict(self, line):
        return self.__dict__["rounds"]

    def hands_on(self, line):
        return given(self, line)

    def hands_on_inside(self, line):
        return [given(self, word) for word in line]

    def keeps(self, line):
        mine = self
        return mine.rounds

    def indexes(self, line):
        return self[0]

    def uses_one_that_hands_on(self, line):
        return self.hands_on(line)

    def by_descriptor(self, line):
        return self.described


@pytest.mark.parametrize(
    ("name", "read", "not_read"),
    [
        ("plain", {"ids", "unknown"}, {"rounds", "table"}),
        ("inside", {"ids"}, {"rounds", "table"}),
        ("calls", {"table", "start"}, {"rounds", "ids"}),
        ("uses_kept", {"deep"}, {"rounds"}),
        ("uses_still", {"of_static"}, {"rounds"}),
        ("uses_global", {"ids", "offset", "shifted"}, {"rounds"}),
        ("uses_library", {"ids"}, {"rounds"}),
    ],
)
def test_names_that_are_read(name, read, not_read):
    found = attributes_read(vars(Texts)[name], Texts, Texts)
    assert found is not None
    assert found >= read
    assert not found & not_read


@pytest.mark.parametrize(
    "name",
    [
        *("by_name", "by_dict", "hands_on", "hands_on_inside", "keeps", "indexes"),
        *("by_descriptor", "uses_one_that_hands_on"),
    ],
)
def test_functions_that_may_read_everything(name):
    assert attributes_read(vars(Texts)[name], Texts, Texts) is None


def test_a_method_of_a_class_that_inherits():
    class Child(Texts):
        def one(self, word):
            return self.rounds

    found = attributes_read(Texts.calls, Texts, Child)
    assert found is not None
    assert found >= {"rounds", "table"}


def test_a_function_of_a_module_may_hand_on_its_arguments():
    assert attributes_read(of_module, None, Texts) >= {"offset", "shifted"}
    assert attributes_read(given, None, Texts) >= {"rounds"}


def test_too_many_functions(monkeypatch):
    monkeypatch.setattr(attribute_reads, "MOST_FUNCTIONS", 1)
    assert attributes_read(Texts.calls, Texts, Texts) is None
