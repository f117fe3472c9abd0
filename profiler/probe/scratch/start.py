"""Started as a file by the interpreter of the training: loads the probe under a private name."""

import sys
from importlib import import_module


def main() -> None:
    """Takes our folder off sys.path, where the user's modules are looked for, and begins."""
    home, copy, out, budget_s, *validation = sys.argv[1:]
    del sys.path[0]
    root = type(sys)("_trainprof")
    root.__path__ = [home]
    sys.modules["_trainprof"] = root
    import_module("_trainprof.profiler.probe.scratch.look").look(
        copy, out, float(budget_s), *validation
    )


if __name__ == "__main__":
    main()
