"""HolisticTraceAnalysis on one trace: its temporal, idle and kernel breakdown, printed.

Runs in the environment of `traces_peer.txt`.
"""

import sys

from hta.trace_analysis import TraceAnalysis

analysis = TraceAnalysis(trace_files={0: sys.argv[1]}, trace_dir="/")
print(analysis.get_temporal_breakdown(visualize=False))
print(analysis.get_idle_time_breakdown(visualize=False)[0])
for table in analysis.get_gpu_kernel_breakdown(visualize=False):
    print(table)
