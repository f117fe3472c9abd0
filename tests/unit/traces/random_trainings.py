"""Random traces in which a host launches, copies and waits as a training does."""

from hypothesis import strategies as st
from trace_builder import TraceBuilder

ACTIONS = ("launch", "launch", "launch", "other stream", "copy", "synchronise", "operator", "wait")


@st.composite
def trainings(draw):
    """Events that could have happened: devices in order, synchronisations as long as needed."""
    builder, now, number = TraceBuilder(), 0, 0
    free = {7: 0, 20: 0}
    for step in range(draw(st.integers(1, 3))):
        began = now
        for action in draw(st.lists(st.sampled_from(ACTIONS), min_size=1, max_size=8)):
            now += draw(st.integers(0, 40))
            length = draw(st.integers(1, 60))
            number += 1
            if action in ("launch", "other stream", "copy"):
                stream = 20 if action == "other stream" else 7
                name = "cudaMemcpyAsync" if action == "copy" else "cudaLaunchKernel"
                builder.call(name, now, 5, correlation=number)
                start = max(now + 6, free[stream])
                free[stream] = start + length
                if action == "copy":
                    builder.copy(start, length, correlation=number)
                else:
                    kind = draw(st.sampled_from(["sgemm", "ncclAllReduce", "elementwise"]))
                    builder.kernel(kind, start, length, stream, correlation=number)
                now += 5
            elif action == "synchronise":
                over = max(now + 3, *free.values())
                builder.call("cudaDeviceSynchronize", now, over - now)
                now = over
            elif action == "operator":
                builder.operator("aten::add", now, length)
                now += length
            else:
                builder.wait(now, length)
                now += length
        builder.step(step, began, max(now - began, 1))
        now = max(now, began + 1)
    return builder
