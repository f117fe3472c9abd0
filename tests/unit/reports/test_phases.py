import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.model.diagnosis import PhaseTime, StepSummary
from trainprof.profiler.model.phases import PHASES
from trainprof.reports.phases import FOLDED, PhaseRow, bar_cells, phase_rows


def rows_of(shares):
    phases = {phase: PhaseTime(share, share / 10) for phase, share in shares.items()}
    return phase_rows(StepSummary(100, 90, 0.1, phases=phases))


def test_rows_follow_the_step_and_fold_what_is_small():
    rows = rows_of({"residual": 0.3, "gc": 0.003, "forward": 0.694, "sync": 0.003, "h2d": 0.0})
    assert [row.phase for row in rows] == ["forward", "residual", FOLDED]
    assert rows[-1].time.share == pytest.approx(0.006)
    assert rows[-1].time.s_per_step == pytest.approx(0.0006)


def test_every_phase_has_a_letter_and_a_label_of_its_own():
    rows = rows_of({phase: 1 / len(PHASES) for phase in PHASES})
    assert len({row.letter for row in rows}) == len(PHASES)
    assert len({row.label for row in rows}) == len(PHASES)
    assert not {"?", "."} & {row.letter for row in rows}


def test_nothing_measured_gives_no_row():
    assert phase_rows(StepSummary(0, 0)) == []


@given(st.lists(st.floats(0.005, 1.0), min_size=1, max_size=14), st.integers(1, 200))
def test_cells_fill_the_bar_in_proportion(shares, width):
    rows = [PhaseRow("x", "X", "x", PhaseTime(share, share)) for share in shares]
    cells = bar_cells(rows, width)
    assert sum(cells) == width
    for share, count in zip(shares, cells, strict=True):
        assert abs(count - share / sum(shares) * width) <= 1
