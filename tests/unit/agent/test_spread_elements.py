"""A few elements of a tensor that stand for all: which, and of which tensors there are none."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from trainprof.profiler.agent.spread_elements import is_in_memory, spread_elements  # noqa: E402


@pytest.mark.parametrize("count", [1, 3, 31, 32, 33, 64, 1000, 4096])
def test_they_are_spread_over_all_and_not_copied(count):
    tensor = torch.arange(float(count))
    chosen = spread_elements(tensor, 32)
    assert len(chosen) == min(count, 32)
    assert chosen[-1] >= 0.4 * (count - 1)
    assert chosen.untyped_storage().data_ptr() == tensor.untyped_storage().data_ptr()


def test_they_do_not_stay_in_one_column():
    columns = spread_elements(torch.arange(64.0).repeat(64, 1), 64) % 64
    assert len(set(columns.tolist())) == 64


def test_a_turned_tensor_and_a_part_of_one_have_theirs():
    tensor = torch.arange(12.0).reshape(3, 4)
    assert sorted(spread_elements(tensor.t(), 12).tolist()) == list(range(12))
    assert spread_elements(tensor[1:], 8).tolist() == list(range(4, 12))


def test_there_are_none_where_the_memory_does_not_hold_all():
    given_back = torch.ones(8)
    given_back.untyped_storage().resize_(0)
    for tensor in (torch.ones(1).expand(8), given_back, torch.ones(0)):
        assert spread_elements(tensor, 4) is None
    assert not is_in_memory(given_back)
    assert is_in_memory(torch.ones(8))
