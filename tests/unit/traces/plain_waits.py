"""Waits and copies in the plainest way: one after the other, and every gap looked at."""

import re

from plain_launches import CALLS, events_of
from plain_timeline import DEVICE, clipped, total, union

WAITS = r"(cuda|hip|cu)(Device|Stream|Event|Ctx)Synchronize|(cuda|hip)Memcpy(?!.*Async)"


def plain_waits(path, device, start, end):
    """Rows of start, end, blocked, cost and idle time until the next wait, in ns."""
    events = events_of(path)
    calls, first = [e for e in events if e[0] in CALLS], {}
    for e in calls:
        first.setdefault(e[4].get("correlation", -1), e)
    pairs = []
    for work in (e for e in events if e[0] in DEVICE):
        call = first.get(work[4].get("correlation", -1))
        if call and work[4].get("correlation", -1) != -1 and call[2] <= work[3]:
            pairs.append((call, work))
    blocking = {id(e): False for e in calls if re.match(WAITS, e[1])}
    for call, work in pairs:
        if "memcpy" in work[0] and ("Pageable" in work[1] or call[3] >= work[3]):
            blocking.setdefault(id(call), False)
    for call, work in pairs:
        large = work[4].get("bytes", -1) == -1 or work[4]["bytes"] >= 65536
        if "memcpy" in work[0] and "HtoD" in work[1] and large and id(call) in blocking:
            blocking[id(call)] = True
    launching = {id(call) for call, _ in pairs}
    waits, last = [], {}
    for call in (e for e in calls if id(e) in blocking or id(e) in launching):
        thread, kind = call[4]["tid"], blocking.get(id(call))
        around = [e for e in events if e[0] in ("cpu_op", "operator") and e[4]["tid"] == thread
                  and e[1].startswith("aten::") and e[2] <= call[2] < e[3]]  # fmt: skip
        before, last[thread] = last.get(thread), None
        if kind is None:
            continue
        if before and around and around[0] is before["around"]:
            before.update(end=max(before["end"], call[3]), h2d=before["h2d"] or kind,
                          blocked=before["blocked"] + call[3] - call[2])  # fmt: skip
            last[thread] = before
            continue
        wait = {"start": call[2], "end": call[3], "blocked": call[3] - call[2], "h2d": kind}
        last[thread] = {**wait, "around": around[0] if around else None}
        waits.append(last[thread])
    waits = [w for w in waits if start < w["end"] <= end]
    return _with_costs(waits, events, pairs, device, start, end)


def _with_costs(waits, events, pairs, device, start, end):
    own = [e for e in events if e[0] in DEVICE and e[4].get("device", -1) == device]
    pairs = [p for p in pairs if p[1][4].get("device", -1) == device]
    busy = union(clipped([e[2:4] for e in own], start, end))
    edges = [start, *(x for one in busy for x in one), end]
    gaps = [(a, b) for a, b in zip(edges[::2], edges[1::2], strict=True) if b > a]
    follows = {}
    for call, work in pairs:
        follows.setdefault(work[2], min(call[3], work[2]))
    late = [(a, b) for a, b in gaps if b in follows and follows[b] > a]
    batches = [e[2:4] for e in events if "DataLoader" in e[1] and e[0] not in DEVICE]

    def idle(a, b):
        return total(clipped([(a, b)], a, b)) - total(clipped(batches, a, b)) if b > a else 0

    rows = []
    for place, wait in enumerate(waits):
        after = [p for p in pairs if p[0][2] >= wait["end"]]
        first = min(after, key=lambda p: p[0][2])[1][2] if after else None
        gap = next((g for g in late if g[1] == first), None)
        cost = min(idle(max(gap[0], wait["start"]), gap[1]), wait["blocked"]) if gap else 0
        until = waits[place + 1]["start"] if place + 1 < len(waits) else end
        inside = clipped(late, wait["start"], until)
        behind = min(sum(idle(*one) for one in inside), wait["blocked"])
        rows.append([wait["start"], wait["end"], wait["blocked"], cost, behind, gap, wait["h2d"]])
    for row in rows:  # of several waits before one gap the dearest costs, the first of equal ones
        same = [r for r in rows if r[5] and r[5] == row[5]]
        if same and row is not max(same, key=lambda r: r[3]):
            row.append(0)
        else:
            row.append(row[3])
    return [(r[0], r[1], r[2], r[7], max(r[4], r[7]), r[6]) for r in rows]
