"""Files of lines in whatever state a crash leaves them."""

import json
import os

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.errors import RunFolderError
from trainprof.profiler.store import lines
from trainprof.profiler.store.lines import Problems, array_of_lines, read_header, read_records

HEADER = b'{"format":1}\n'


def rows(path, problems=None):
    def parse(chunk):
        return msgspec.json.decode(array_of_lines(chunk), type=list[int])

    parts = read_records(path, "process 7", problems or Problems(), parse)
    return [number for part in parts for number in part]


@pytest.fixture
def file_of(tmp_path):
    def make(body, header=HEADER):
        path = tmp_path / "x.jsonl"
        path.write_bytes(header + body)
        return path

    return make


def test_a_torn_last_line_is_dropped_without_a_word(file_of):
    problems = Problems()
    assert rows(file_of(b"1\n2\n34"), problems) == [1, 2]
    assert problems.sentences == []


@pytest.mark.parametrize("body", [b"", b"5", b"\n", b"\n\n"])
def test_files_without_lines(file_of, body):
    problems = Problems()
    assert rows(file_of(body), problems) == []
    assert problems.sentences == []


def test_bad_lines_are_counted_and_named(file_of):
    problems = Problems()
    body = b"1\n}\n3\n\0\0\0\n5\n[1\n,\n\xff\n9\n"
    assert rows(file_of(body), problems) == [1, 3, 5, 9]
    assert problems.sentences == ["x.jsonl of process 7: 5 lines were unreadable and are left out"]


def test_one_bad_line_is_named_in_the_singular(file_of):
    problems = Problems()
    rows(file_of(b"1\nx\n"), problems)
    assert problems.sentences == ["x.jsonl of process 7: 1 line was unreadable and is left out"]


def test_a_hole_of_zeros_at_the_end_is_a_torn_line(file_of):
    problems = Problems()
    assert rows(file_of(b"1\n2\n" + b"\0" * 5_000_000), problems) == [1, 2]
    assert problems.sentences == []


def test_a_hole_larger_than_any_line_costs_no_memory(tmp_path, monkeypatch):
    monkeypatch.setattr(lines, "LINE_BYTES_MAX", 1_000_000)
    path = tmp_path / "x.jsonl"
    path.write_bytes(HEADER + b"1\n")
    os.truncate(path, 20_000_000)
    with path.open("ab") as file:
        file.write(b"\n2\n")
    problems = Problems()
    assert rows(path, problems) == [1, 2]
    assert problems.sentences == ["x.jsonl of process 7: 1 line was unreadable and is left out"]


def test_an_error_of_the_disk_keeps_what_was_read(file_of, monkeypatch):
    path = file_of(b"1\n2\n")
    problems = Problems()

    def broken(_):
        yield b"1\n"
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(lines, "_chunks", broken)
    assert rows(path, problems) == [1]
    assert problems.sentences == ["x.jsonl of process 7 could not be read: Input/output error"]


@given(
    st.lists(st.integers(-(2**40), 2**40) | st.sampled_from([b"}", b"1,2", b"\0", b"[", b"nul"])),
    st.integers(1, 40),
)
def test_every_good_line_survives_wherever_the_chunks_are_cut(tmp_path_factory, body, chunk):
    path = tmp_path_factory.mktemp("lines") / "x.jsonl"
    text = [line if isinstance(line, bytes) else str(line).encode() for line in body]
    path.write_bytes(HEADER + b"".join(line + b"\n" for line in text))
    problems = Problems()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lines, "CHUNK_BYTES", chunk)
        read = rows(path, problems)
    good = [line for line in body if isinstance(line, int)]
    if b"1,2" not in body:  # two values in one line are for the typed parsers to refuse
        assert read == good
        assert bool(problems.sentences) == (len(good) < len(body))


class TestHeader:
    def test_unknown_keys_are_ignored(self, file_of):
        path = file_of(
            b"", json.dumps({"format": 1, "columns": ["a"], "new": [1]}).encode() + b"\n"
        )
        assert read_header(path, "process 7", Problems()).columns == ("a",)

    @pytest.mark.parametrize("header", [b"", b'{"form', b'{"format":1}'])
    def test_a_file_without_a_whole_first_line_is_empty(self, file_of, header):
        problems = Problems()
        assert read_header(file_of(b"", header), "process 7", problems) is None
        assert problems.sentences == []

    @pytest.mark.parametrize(
        "header",
        [
            *(b"\0\0\n", b"[1]\n", b'{"format":"x"}\n', b"\n"),
            b'{"format":1,"base_ns":-9999999999999999999999}\n',
            b'{"format":1,"unit_ns":9223372036854775808}\n',
        ],
    )
    def test_a_damaged_first_line_is_named(self, file_of, header):
        problems = Problems()
        assert read_header(file_of(b"", header), "process 7", problems) is None
        assert problems.sentences == [
            "x.jsonl of process 7: its first line is unreadable, it is left out"
        ]

    def test_a_newer_format_is_refused(self, file_of):
        path = file_of(b"", b'{"format":2,"columns":{}}\n')
        with pytest.raises(RunFolderError, match=r"newer trainprof \(format 2\); upgrade"):
            read_header(path, "process 7", Problems())
