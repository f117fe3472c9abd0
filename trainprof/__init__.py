"""trainprof: runs your unmodified PyTorch training and says where every second goes, and why.

In a training script, `trainprof.step()` and `with trainprof.phase("name"):` are optional hints for
loops that cannot be recognised; without `trainprof run` they do nothing. In a notebook,
`%load_ext trainprof` offers the cell magic `%%trainprof`.
"""

from typing import Any

from trainprof.profiler.agent.public import phase, step

__all__ = ["__version__", "phase", "step"]
__version__ = "0.1.0"


def load_ipython_extension(shell: Any) -> None:
    """What `%load_ext trainprof` calls: registers the cell magic `%%trainprof`."""
    from trainprof.cli.notebook import register

    register(shell)
