"""An installed package, as small as one can be, that declares fixes of its own."""

from __future__ import annotations

FLAG_SET = '''
"""A fix of another package."""

from trainprof.rules.fixes.fix import Fix, Process, ReadBack


class FlagSet(Fix):
    """Sets a flag."""

    id = "flag-set"
    title = "A flag"
    safety = "safe"
    parameters = {"value": int}

    def install(self, process: Process) -> None:
        self._torch = process.torch
        process.torch.flag_of_a_test = self.params.get("value", 1)

    def read_back(self) -> ReadBack:
        seen = getattr(self._torch, "flag_of_a_test", None)
        return ReadBack(seen == self.params.get("value", 1), {"value": seen})
'''


def install(folder, fixes=(("flag-set", "flag_set:FlagSet"),), files=None, name="flags"):
    """Puts it into a folder that belongs on sys.path."""
    for file, text in (files or {"flag_set.py": FLAG_SET}).items():
        (folder / file).write_text(text)
    info = folder / f"{name}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    lines = "\n".join(f"{fix} = {place}" for fix, place in fixes)
    (info / "entry_points.txt").write_text(f"[trainprof.fixes]\n{lines}\n")
