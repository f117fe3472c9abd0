"""Files with something wrong in them, made of sound ones; run as a script, it tries thousands.

    python tests/unit/traces/spoilt_files.py 10000 SEED

takes each through `diagnose` in one of its formats and through `export`, and says how many were
read or refused, the slowest, and the peak of memory. What is no sentence is kept and printed.
"""

from __future__ import annotations

import contextlib
import gzip
import io
import json
import random
import re
import resource
import signal
import sqlite3
import sys
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
from nsight_builder import NsightBuilder
from snapshot_builder import FORWARD, MODULE, SCRIPT, SnapshotBuilder
from trace_builder import TraceBuilder

from trainprof.cli.main import main

REAL = Path(__file__).parents[4] / "shared" / "traces"
LONGEST_S = 60
"""For one file on a busy machine: far more than any takes."""
MOST_MEMORY = 3 << 30
"""Bytes of address space for all of it, numpy's own included."""
FORMATS = ("text", "json", "markdown", "github")
FAULTS = (
    *(b"null", b"NaN", b"-Infinity", b"1e999", b"-1", b'"x"', b"[[[[", b"}}", b"\xff\xfe", b"true"),
    *(b"9" * 30, b'{"a":[{},{"b":1}]}', b"0.1e-400", b"9223372036854775807", b"1e18", b'""', b"[]"),
    *(b"1" + b"0" * 400, b'"\\ud800"', b'"\\u0000"', b"[" * 3000),
)
WORDS = (b'"ph"', b'"X"', b'"ts"', b'"dur"', b'"args"', b'"cat"', b'"kernel"', b'"name"', b'"pid"')
WORDS += (b'"correlation"', b'"Input Dims"', b'"cpu_op"', b'"traceEvents"', b'"cuda_runtime"')
WORDS += (b'"device"', b'"stream"', b"ProfilerStep#", b"nccl", b"aten::", b"cudaLaunchKernel")


def training():
    """Steps with all that rules look for."""
    builder = TraceBuilder()
    for number in range(5):
        start = 1_000 + 1000 * number
        builder.step(number, start, 1000).wait(start, 200)
        shape = {"Input Dims": [[64, 128], [128, 32]], "Input type": ["float", "float"]}
        builder.operator("aten::mm", start + 200, 50, **{"External id": number}, **shape)
        builder.call("cudaLaunchKernel", start + 210, 8, correlation=10 * number + 1)
        builder.kernel("ampere_sgemm_128x64", start + 230, 300, correlation=10 * number + 1)
        builder.call("cudaMemcpyAsync", start + 300, 90, correlation=10 * number + 2)
        builder.copy(start + 540, 60, size=1 << 20, correlation=10 * number + 2)
        builder.call("cudaStreamSynchronize", start + 610, 100)
        builder.kernel("ncclDevKernel_AllReduce", start + 650, 80, stream=20)
        builder.operator("Optimizer.step#SGD.step", start + 800, 100)
    return builder


def export():
    """The same of Nsight Systems."""
    builder = NsightBuilder().gpu(0, "Made-up 9000").thread_name("python")
    for number in range(5):
        start = 1_000_000 + 1_000_000 * number
        builder.step(number, start, 1_000_000).wait(start, 200_000)
        builder.range("aten::mm, seq = 3", start + 200_000, 50_000, by_id=True)
        builder.call("cudaLaunchKernel_v7000", start + 210_000, 8000, correlation=number + 1)
        builder.kernel("ampere_sgemm", start + 230_000, 300_000, correlation=number + 1)
        builder.copy(start + 540_000, 60_000).fill(start + 610_000, 500)
    return builder


def snapshot():
    """A memory snapshot."""
    builder = SnapshotBuilder()
    for number in range(20):
        address = builder.alloc(1 << (20 + number % 8), FORWARD, MODULE, SCRIPT)
        if number % 3:
            builder.free(address)
    return builder.optimizer_step().out_of_memory(1 << 30, 1 << 20)


class Spoilt:
    """Makes files.

    Args:
        random_of: Decides what is wrong. folder: For what has to be written to be made.
    """

    def __init__(self, random_of, folder):
        self._random = random_of
        texts = [training().text(indent=1).encode(), training().text(as_list=True).encode()]
        small = [one for one in sorted(REAL.glob("*/*.json*")) if one.stat().st_size < 60_000]
        raw = [one.read_bytes() for one in small]
        texts += [gzip.decompress(one) if one[:2] == b"\x1f\x8b" else one for one in raw]
        self._texts = [one for one in texts if len(one) < 1_200_000]
        self._weights = [1 / len(one) for one in self._texts]  # small ones are tried faster
        self._databases = [export().write(folder / "sound.sqlite").read_bytes()]
        self._snapshots = [snapshot().write(folder / "sound.pickle").read_bytes()]
        self._folder = folder

    def next(self):
        """What is wrong with it, and its bytes."""
        ways = ((self._text, 60), (self._packed, 12), (self._database, 14), (self._rows, 6))
        ways += ((self._pickle, 7), (self._noise, 1))
        ways, weights = zip(*ways, strict=True)
        return self._random.choices(ways, weights)[0]()

    def _sound(self):
        return self._random.choices(self._texts, self._weights)[0]

    def _text(self):
        random_of = self._random
        text = bytearray(self._sound())
        how = random_of.randrange(9)
        place, other = random_of.randrange(len(text)), random_of.randrange(len(text))
        if how == 0:
            self._flip(text, random_of.randrange(1, 20))
        elif how == 1:
            del text[place:]
        elif how == 2:
            del text[place : place + random_of.randrange(1, 3000)]
        elif how == 3:
            text[place:place] = text[other : other + random_of.randrange(1, 3000)]
        elif how == 4:
            text[place:place] = random_of.choice(FAULTS)
        elif how == 5:
            self._replace(text, rb"(?<=:)\s*-?[\d.]+", random_of.randrange(1, 60))
        elif how == 6:
            self._replace(text, rb'"(?:[^"\\]|\\.)*"', random_of.randrange(1, 10))
        elif how == 7:
            word = random_of.choice(WORDS)
            return f"text, {word} changed", bytes(text).replace(word, random_of.choice(WORDS))
        else:
            return "text, numbers doubled", re.sub(rb"(?<=: )\d{2,6}(?=[,\n])", self._number, text)
        return f"text, way {how}", bytes(text)

    def _number(self, found):
        value = int(found[0])
        return str(
            self._random.choice((value, value, -value, value * 2**40, 0, value + 1))
        ).encode()

    def _flip(self, data, count):
        for _ in range(count):
            data[self._random.randrange(len(data))] = self._random.randrange(256)

    def _replace(self, text, pattern, count):
        found = list(re.finditer(pattern, bytes(text)))
        for one in sorted(
            self._random.sample(found, min(count, len(found))), key=lambda one: -one.start()
        ):
            text[one.start() : one.end()] = self._random.choice(FAULTS)

    def _packed(self):
        text = self._text()[1] if self._random.random() < 0.5 else self._sound()
        data = bytearray(gzip.compress(text, 1))
        how = self._random.randrange(4)
        if how == 0:
            self._flip(data, self._random.randrange(1, 5))
        elif how == 1:
            del data[self._random.randrange(len(data)) :]
        elif how == 2:
            data += self._random.choice((b"\0" * 100, b"rubbish", bytes(data)))
        return f"packed, way {how}", bytes(data)

    def _database(self):
        data = bytearray(self._random.choice(self._databases))
        how = self._random.randrange(5)
        place = self._random.randrange(len(data))
        if how == 0:
            self._flip(data, self._random.randrange(1, 40))
        elif how == 1:
            del data[place:]
        elif how == 2:
            page, other = (4096 * self._random.randrange(len(data) // 4096) for _ in "ab")
            data[page : page + 4096] = data[other : other + 4096]
        elif how == 3:
            data[place : place + 200] = bytes(len(data[place : place + 200]))
        else:
            page = 4096 * self._random.randrange(len(data) // 4096)
            for _ in range(8):  # the head of a page: where its cells are, and its children
                data[page + self._random.randrange(12)] = self._random.randrange(256)
        return f"database, way {how}", bytes(data)

    def _rows(self):
        """A sound database with values that no export has."""
        path = self._folder / "rows.sqlite"
        path.write_bytes(self._random.choice(self._databases))
        values = (
            None,
            -1,
            2**62,
            -(2**63),
            2**63 - 1,
            1e300,
            "x",
            "",
            b"\xff",
            "7",
            0.5,
            "é" * 999,
        )
        connection = sqlite3.connect(path)
        tables = [one for (one,) in connection.execute("SELECT name FROM sqlite_master")]
        for _ in range(self._random.randrange(1, 12)):
            table = self._random.choice(tables)
            columns = [one[1] for one in connection.execute(f"PRAGMA table_info({table})")]
            column, value = self._random.choice(columns), self._random.choice(values)
            with contextlib.suppress(sqlite3.Error):
                if self._random.random() < 0.1:
                    connection.execute(f"ALTER TABLE {table} DROP COLUMN {column}")
                else:
                    connection.execute(
                        f"UPDATE {table} SET {column} = ? WHERE random() % 3 = 0", (value,)
                    )
        connection.commit()
        connection.close()
        return "rows", path.read_bytes()

    def _pickle(self):
        data = bytearray(self._random.choice(self._snapshots))
        how = self._random.randrange(3)
        place = self._random.randrange(len(data))
        if how == 0:
            self._flip(data, self._random.randrange(1, 10))
        elif how == 1:
            del data[place : place + self._random.randrange(1, 200)]
        else:
            other = self._random.randrange(len(data))
            data[place:place] = data[other : other + self._random.randrange(1, 200)]
        return f"pickle, way {how}", bytes(data)

    def _noise(self):
        head = self._random.choice(
            (b"", b"\x1f\x8b", b"SQLite format 3\0", b"{", b"[", b"\x80\x04", b"PK\x03\x04")
        )
        return "noise", head + self._random.randbytes(self._random.randrange(5000))


def bombs():
    """Small files that unpack to very much; few, as each takes its time."""
    event = training().text(as_list=True).encode()[1:-1]
    yield "bomb of blanks", _packed_often(b" " * (1 << 20), 400)
    yield "bomb of brackets", _packed_often(b"[" * (1 << 20), 100)
    yield "bomb of zeros in a list", _packed_often(b"0," * (1 << 19), 40, b'{"traceEvents":[')
    yield "bomb of events", _packed_often(event + b",", 3000, b"[")
    yield "bomb of one name", _packed_often(b"a" * (1 << 20), 300, b'[{"name":"')
    yield "bomb of a bomb", gzip.compress(_packed_often(b"\0" * (1 << 20), 300))


def _packed_often(text, times, before=b""):
    out = io.BytesIO()
    with gzip.GzipFile(fileobj=out, mode="wb", compresslevel=1, mtime=0) as file:
        file.write(before)
        for _ in range(times):
            file.write(text)
    return out.getvalue()


def tried(path, out, style):
    """`diagnose` and `export` of a file: "read" or "refused".

    Raises: AssertionError, or whatever came out of them: it is no sentence.
    """
    found = []
    for command in (
        ["diagnose", str(path), "--format", style, "--no-calibration"],
        ["export", str(path), "--to", "perfetto", "--out", str(out)],
    ):
        told, said = io.StringIO(), io.StringIO()
        with contextlib.redirect_stdout(told), contextlib.redirect_stderr(said):
            status = main(command)
        assert status in (0, 2), status
        if status == 2:
            sentence = said.getvalue()
            assert sentence.startswith("trainprof: "), sentence
            assert len(sentence) < 1500, sentence
            assert "Traceback" not in sentence
        elif command[0] == "export":
            json.loads(out.read_bytes())
        elif style == "json":
            json.loads(told.getvalue(), parse_constant=_never)
        found.append("read" if status == 0 else "refused")
    return found[0]


def _never(text):
    raise AssertionError(f"{text} is no number of JSON")


def _tell(*_):
    raise TimeoutError(f"it took more than {LONGEST_S} s")


def try_many(count, seed, folder, keep=None):
    """Tries files, and gives counts by result, the slowest and its time, and what went wrong.

    Args:
        keep: A folder for the files that went wrong.
    """
    random_of = random.Random(seed)
    spoilt = Spoilt(random_of, folder)
    results, wrong, slowest = Counter(), [], (0.0, "")
    signal.signal(signal.SIGALRM, _tell)
    for number in range(count):
        what, data = spoilt.next()
        path = folder / "file"
        path.write_bytes(data)
        began = time.perf_counter()
        signal.alarm(LONGEST_S)
        try:
            results[tried(path, folder / "picture.json", random_of.choice(FORMATS))] += 1
        except Exception as error:  # noqa: BLE001  any is a finding
            wrong.append(f"{number} ({what}): {error!r}\n{traceback.format_exc(limit=-3)}")
            if keep is not None:
                (keep / f"wrong-{seed}-{number}").write_bytes(data)
        finally:
            signal.alarm(0)
        slowest = max(slowest, (time.perf_counter() - began, f"{number} ({what})"))
        if number % 500 == 499:
            print(f"{number + 1:,} of seed {seed}: {len(wrong)} wrong", *wrong[-1:], flush=True)
    return results, slowest, wrong


def run(arguments):
    """Tries as many as asked, with the memory bounded."""
    import tempfile

    count, seed = int(arguments[0]), int(arguments[1])
    keep = Path(arguments[2]) if len(arguments) > 2 else None
    warnings.simplefilter("error")
    resource.setrlimit(resource.RLIMIT_AS, (MOST_MEMORY, MOST_MEMORY))
    with tempfile.TemporaryDirectory() as name:
        results, slowest, wrong = try_many(count, seed, Path(name), keep)
    print(*wrong, sep="\n")
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(f"{count:,} files: {dict(results)}, {len(wrong)} wrong")
    print(f"slowest {slowest[0]:.2f} s: {slowest[1]}; peak {peak} MiB")
    return 1 if wrong else 0


if __name__ == "__main__":
    raise SystemExit(run(sys.argv[1:]))
