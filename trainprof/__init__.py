"""trainprof: runs your unmodified PyTorch training and says where every second goes, and why.

In a training script, `trainprof.step()` and `with trainprof.phase("name"):` are optional hints for
loops that cannot be recognised; without `trainprof run` they do nothing.
"""

from trainprof.profiler.agent.public import phase, step

__all__ = ["__version__", "phase", "step"]
__version__ = "0.1.0"
