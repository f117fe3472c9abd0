# mypy: ignore-errors
# Loaded by every Python that the profiled command starts, through PYTHONPATH; this folder holds
# nothing else. It must parse on Python 2.7 and leave silently where trainprof cannot work. It
# hides again: no sys.path entry stays, and the user's own sitecustomize runs as it would have.
import os
import sys


def _hide():
    """Takes our folder off sys.path (the environment keeps it for child processes)."""
    here = os.path.dirname(os.path.abspath(__file__))
    sys.path[:] = [entry for entry in sys.path if os.path.abspath(entry or os.curdir) != here]


def _boot():
    """Registers the agent under a private name, to be loaded once the script imports torch."""
    home = os.environ.get("TRAINPROF_HOME")
    run = os.environ.get("TRAINPROF_RUN")
    if not home or not run or os.environ.get("TRAINPROF_DISABLE") == "1":
        return
    if sys.version_info < (3, 10):
        return
    root = type(sys)("_trainprof")
    root.__path__ = [home]
    sys.modules["_trainprof"] = root
    from _trainprof.profiler.agent.boot import boot

    boot(run)


def _run_the_users():
    """Imports the sitecustomize that ours has hidden, if there is one."""
    mine = sys.modules.pop("sitecustomize", None)
    try:
        import sitecustomize  # noqa: F401
    except ImportError as error:
        if getattr(error, "name", "sitecustomize") != "sitecustomize":
            raise
        if mine is not None:
            sys.modules["sitecustomize"] = mine


_hide()
try:
    _boot()
except Exception as error:  # the script must run whatever happens to us
    sys.stderr.write("trainprof: not active in this process: %r\n" % (error,))
_run_the_users()
