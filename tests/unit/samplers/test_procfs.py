"""Parsers of kernel files: what they read, and that no text makes them raise."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.samplers.cgroup import parse_groups, parse_mounts
from trainprof.profiler.samplers.hardware import parse_cpu_info
from trainprof.profiler.samplers.procfs import (
    ProcessStat,
    parse_integer,
    parse_pressure,
    parse_process_stat,
    parse_run_delay,
    parse_table,
    read_text,
)

counters = st.integers(0, 2**64 - 1)
texts = st.text(st.characters(codec="utf-8"), max_size=300)


@given(some=counters, full=counters | st.none(), average=st.floats(0, 100))
def test_pressure(some, full, average):
    averages = f"avg10={average:.2f} avg60=0.00 avg300=0.00"
    text = f"some {averages} total={some}\n"
    expected = {"some": some}
    if full is not None:  # the kernel writes no full line of cpu before 5.13
        text += f"full {averages} total={full}\n"
        expected["full"] = full
    assert parse_pressure(text) == expected


@given(
    name=st.text(st.characters(exclude_characters="\0"), max_size=15),
    state=st.sampled_from("RSDZTX"),
    faults=counters,
    ticks=counters,
)
def test_process_stat_whatever_the_program_is_called(name, state, faults, ticks):
    rest = " ".join("7" for _ in range(30))
    text = (
        f"42 ({name}) {state} 1 42 42 0 -1 4194304 77 0 {faults} 0 1 2 0 0 20 0 1 0 {ticks} {rest}"
    )
    assert parse_process_stat(text) == ProcessStat(state, faults, ticks)


@given(table=st.dictionaries(st.from_regex(r"[A-Za-z_]{1,12}", fullmatch=True), counters))
def test_tables_of_names_and_numbers(table):
    assert parse_table("".join(f"{name} {value}\n" for name, value in table.items())) == table
    with_units = "".join(f"{name}:   {value} kB\n" for name, value in table.items())
    assert parse_table(with_units) == table
    for name, value in table.items():
        assert parse_table(with_units, (f"{name}:",)) == {name: value}


@given(ran=counters, waited=counters, slices=counters)
def test_run_delay(ran, waited, slices):
    assert parse_run_delay(f"{ran} {waited} {slices}\n") == waited


@given(text=texts | st.none())
@pytest.mark.parametrize(
    "parse",
    [
        parse_integer,
        parse_pressure,
        parse_process_stat,
        parse_table,
        parse_run_delay,
        parse_mounts,
        parse_groups,
        parse_cpu_info,
    ],
)
def test_no_text_makes_a_parser_raise(parse, text):
    assert parse(text) == parse(text)


@pytest.mark.parametrize("parse", [parse_process_stat, parse_run_delay])
@pytest.mark.parametrize("text", [None, "", "1 (x", "0"])
def test_what_is_too_short_is_missing_not_zero(parse, text):
    assert parse(text) is None


def test_an_absent_or_forbidden_file_has_no_text(tmp_path):
    assert read_text(tmp_path / "absent") is None
    assert read_text(tmp_path) is None  # a folder
    (tmp_path / "file").write_bytes(b"caf\xe9 1\n")
    assert read_text(tmp_path / "file") == "caf\N{REPLACEMENT CHARACTER} 1\n"


def test_cpu_info():
    text = "processor\t: 0\nmodel name\t: Some CPU @ 2 GHz\nflags\t\t: fpu avx512_bf16 amx_bf16\n"
    text += "\nprocessor\t: 1\nmodel name\t: another\nflags\t\t: fpu\n"
    assert parse_cpu_info(text) == ("Some CPU @ 2 GHz", ("fpu", "avx512_bf16", "amx_bf16"))
    assert parse_cpu_info("processor : 0\nFeatures : fp asimd bf16\n") == (
        None,
        ("fp", "asimd", "bf16"),
    )
    assert parse_cpu_info(None) == (None, ())
