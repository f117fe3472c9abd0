"""Samples left out or repeated are seen; another order and other batches are no difference."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.agent.drawn_samples import _hash
from trainprof.rules.experiments.sample_check import MASK, sample_difference


def epoch(batches, complete=True):
    sums = [sum(map(_hash, batch)) & MASK for batch in batches]
    return {"counts": [len(batch) for batch in batches], "sums": sums, "complete": complete}


def batches(indices, size=4):
    return [list(indices[start : start + size]) for start in range(0, len(indices), size)]


def compare(one, other, same_order=True, repeat=None):
    unchanged = [{"l0e0": one}, {"l0e0": repeat or one}]
    return sample_difference(unchanged, [{"l0e0": other}], same_order=same_order)


@given(st.permutations(range(20)), st.integers(1, 20))
def test_whole_epochs_are_equal_in_any_order_and_batches(order, size):
    assert compare(epoch(batches(range(20))), epoch(batches(order, size))) is None


@given(st.integers(0, 19), st.integers(0, 19))
def test_a_sample_in_place_of_another_is_seen(left_out, repeated):
    changed = list(range(20))
    changed[left_out] = repeated
    found = compare(epoch(batches(range(20))), epoch(batches(changed)))
    assert (found is None) == (left_out == repeated)


def test_a_missing_last_batch_is_seen_and_named():
    found = compare(epoch(batches(range(20))), epoch(batches(range(16))))
    assert found == "other samples are drawn (loader 1, epoch 1)"


def test_of_passes_that_were_cut_off_the_beginnings_are_compared():
    one, more = epoch(batches(range(12)), False), epoch(batches(range(24), 3), False)
    other = epoch(batches([0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 99]), False)
    assert compare(one, more) is None
    assert compare(one, other) is not None
    assert compare(one, other, same_order=False) is None
    assert compare(one, epoch([], False)) is None


def test_where_equal_runs_draw_otherwise_only_whole_epochs_tell():
    order = np.random.default_rng(1).permutation(100).tolist()
    cut = epoch(batches(order[:40]), False)
    assert compare(epoch(batches(range(40)), False), cut, repeat=cut) is None


def test_what_equal_runs_split_at_random_says_nothing():
    one, repeat = epoch(batches(range(20))), epoch(batches(range(1, 21)))
    assert compare(one, epoch(batches(range(2, 22))), repeat=repeat) is None
    assert compare(one, epoch(batches(range(2, 22)))) is not None


def test_draws_with_replacement_depend_on_random_numbers_that_differ():
    unchanged = {"l0e0": epoch([[1, 1]]), "l0e1": epoch([[2, 3]])}
    changed = {"l0e0": epoch([[1, 1]]), "l0e1": epoch([[3, 3]])}
    assert sample_difference([unchanged], [changed], same_order=False) is None
    assert sample_difference([unchanged], [changed], same_order=True) is not None


def test_passes_that_one_side_lacks_are_no_difference():
    assert sample_difference([{"l0e0": epoch([[1]])}], [{}], same_order=True) is None
    assert sample_difference([], [{"l0e0": epoch([[1]])}], same_order=True) is None
