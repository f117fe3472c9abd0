"""Writes small databases as `nsys export --type sqlite` does, by NVIDIA's schema reference."""

from __future__ import annotations

import sqlite3

TABLES = {
    "StringIds": "id INTEGER NOT NULL PRIMARY KEY, value TEXT NOT NULL",
    "TARGET_INFO_GPU": "vmId INTEGER, id INTEGER, name TEXT, totalMemory INTEGER, smCount INTEGER,"
    " computeMajor INTEGER, computeMinor INTEGER",
    "ThreadNames": "nameId INTEGER, priority INTEGER, globalTid INTEGER",
    "CUPTI_ACTIVITY_KIND_KERNEL": "start INTEGER, end INTEGER, deviceId INTEGER, contextId INTEGER,"
    " streamId INTEGER, correlationId INTEGER, globalPid INTEGER, demangledName INTEGER,"
    " shortName INTEGER, mangledName INTEGER, gridX INTEGER, graphNodeId INTEGER",
    "CUPTI_ACTIVITY_KIND_MEMCPY": "start INTEGER, end INTEGER, deviceId INTEGER, contextId INTEGER,"
    " streamId INTEGER, correlationId INTEGER, globalPid INTEGER, bytes INTEGER, copyKind INTEGER,"
    " srcKind INTEGER, dstKind INTEGER",
    "CUPTI_ACTIVITY_KIND_MEMSET": "start INTEGER, end INTEGER, deviceId INTEGER, contextId INTEGER,"
    " streamId INTEGER, correlationId INTEGER, globalPid INTEGER, value INTEGER, bytes INTEGER",
    "CUPTI_ACTIVITY_KIND_RUNTIME": "start INTEGER, end INTEGER, eventClass INTEGER,"
    " globalTid INTEGER, correlationId INTEGER, nameId INTEGER, returnValue INTEGER",
    "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION": "start INTEGER, end INTEGER, deviceId INTEGER,"
    " contextId INTEGER, streamId INTEGER, correlationId INTEGER, globalPid INTEGER,"
    " syncType INTEGER, eventId INTEGER",
    "OSRT_API": "start INTEGER, end INTEGER, eventClass INTEGER, globalTid INTEGER,"
    " correlationId INTEGER, nameId INTEGER, returnValue INTEGER",
    "NVTX_EVENTS": "start INTEGER, end INTEGER, eventType INTEGER, rangeId INTEGER,"
    " category INTEGER, text TEXT, globalTid INTEGER, textId INTEGER, domainId INTEGER",
}


class NsightBuilder:
    """Rows in the order in which they are added; times in nanoseconds.

    Tables without rows are not made, as in real exports.
    """

    def __init__(self, pid=100):
        self.pid = pid
        self.rows = {}
        self._texts = {}

    def text(self, value):
        return self._texts.setdefault(value, len(self._texts) + 1)

    def row(self, table, **values):
        self.rows.setdefault(table, []).append(values)
        return self

    def tid(self, thread, pid=None):
        return ((pid or self.pid) << 24) | thread

    def _device(self, table, start, length, stream, device, correlation, pid, **more):
        where = {"deviceId": device, "streamId": stream, "correlationId": correlation}
        times = {"start": start, "end": start + length, "globalPid": (pid or self.pid) << 24}
        return self.row(table, **times, **where, **more)

    def kernel(self, name, start, length, stream=7, device=0, correlation=0, pid=None, short=None):
        names = {"demangledName": self.text(name), "shortName": self.text(short or name)}
        table = "CUPTI_ACTIVITY_KIND_KERNEL"
        return self._device(table, start, length, stream, device, correlation, pid, **names)

    def copy(self, start, length, size=1024, stream=7, device=0, correlation=0, kinds=(1, 0, 2)):
        table = "CUPTI_ACTIVITY_KIND_MEMCPY"
        said = dict(zip(("copyKind", "srcKind", "dstKind"), kinds, strict=True), bytes=size)
        return self._device(table, start, length, stream, device, correlation, None, **said)

    def fill(self, start, length, stream=7, device=0, correlation=0):
        table = "CUPTI_ACTIVITY_KIND_MEMSET"
        return self._device(table, start, length, stream, device, correlation, None, bytes=64)

    def call(self, name, start, length, correlation=0, thread=100, pid=None, table=None):
        return self.row(
            table or "CUPTI_ACTIVITY_KIND_RUNTIME",
            start=start,
            end=start + length,
            globalTid=self.tid(thread, pid),
            correlationId=correlation,
            nameId=self.text(name),
        )

    def range(self, name, start, length, thread=100, domain=0, by_id=False, kind=59):
        said = {"textId": self.text(name)} if by_id else {"text": name}
        times = {"start": start, "end": None if length is None else start + length}
        return self.row(
            "NVTX_EVENTS",
            **times,
            eventType=kind,
            globalTid=self.tid(thread),
            domainId=domain,
            **said,
        )

    def wait(self, start, length):
        return self.range("trainprof: data wait", start, length)

    def step(self, number, start, length):
        return self.range(f"trainprof: step {number}", start, length)

    def gpu(self, number, name):
        return self.row("TARGET_INFO_GPU", id=number, name=name, totalMemory=1 << 30, smCount=80)

    def thread_name(self, name, thread=100):
        return self.row("ThreadNames", nameId=self.text(name), globalTid=self.tid(thread))

    def write(self, path, without=()):
        """Writes the file, and gives its path.

        Args:
            without: Columns that are left out of their tables.
        """
        path.unlink(missing_ok=True)
        rows = {**self.rows, "StringIds": [{"id": n, "value": t} for t, n in self._texts.items()]}
        connection = sqlite3.connect(path)
        for table, found in rows.items():
            columns = [one for one in TABLES[table].split(", ") if one.split()[0] not in without]
            names = [one.split()[0] for one in columns]
            connection.execute(f"CREATE TABLE {table} ({', '.join(columns)})")
            places = ", ".join("?" * len(names))
            connection.executemany(
                f"INSERT INTO {table} VALUES ({places})",
                [[row.get(name) for name in names] for row in found],
            )
        connection.commit()
        connection.close()
        return path
