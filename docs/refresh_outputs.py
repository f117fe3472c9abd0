"""Writes what the commands of a page print into it: `python docs/refresh_outputs.py PAGE`.

A page names the files that its commands need in a comment, `<!-- needs: sample_runs/x/a.py -->`.
They are committed to a new git repository, and the commands run there, one after another. Each is a
line `$ …` in a block of the language `console`; what follows it is replaced by what it printed. The
folder is called ~/NAME on the page, NAME being that of the page's file. A sentence "The outputs are
those of …" gets today's date. An image whose text is `$ …` is drawn anew: the terminal, in colour,
in which that command ran, after all others.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
from rich.console import Console
from rich.text import Text

REPOSITORY = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"^```console\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NEEDS = re.compile(r"^<!-- needs: (.*) -->$", re.MULTILINE)
PICTURE = re.compile(r"!\[\$ ([^\]]*)\]\(([^)]+\.svg)\)")
MEASURED = re.compile(r"^The outputs are those of .*$", re.MULTILINE)
PROMPT = "$ "


def commands_of(page: str) -> list[str]:
    """The commands of a page, in order."""
    lines = [line for block in BLOCK.findall(page) for line in block.splitlines()]
    return [line.removeprefix(PROMPT) for line in lines if line.startswith(PROMPT)]


def refreshed(page: str, run: Callable[[str], str]) -> str:
    """The page with the output of `run(command)` below each command."""

    def block(found: re.Match[str]) -> str:
        lines = ["```console"]
        for command in commands_of(found[0]):
            lines += [f"{PROMPT}{command}", *run(command).splitlines()]
        return "\n".join([*lines, "```"])

    return BLOCK.sub(block, page)


def measured(page: str, now: time.struct_time, cores: int) -> str:
    """The page with its sentence about when and where its outputs were made."""
    day = f"{now.tm_mday} {time.strftime('%B %Y', now)}"
    sentence = f"The outputs are those of {day}, on {cores} cores that other programs used as well."
    return MEASURED.sub(sentence, page)


def drawn(output: str, title: str) -> str:
    """What a terminal of 80 columns shows, as SVG that fetches no fonts."""
    console = Console(record=True, width=80, file=io.StringIO(), force_terminal=True)
    console.print(Text.from_ansi(output))
    return re.sub(r"@font-face \{.*?\}", "", console.export_svg(title=title), flags=re.DOTALL)


class Workplace:
    """A new repository with the files that a page needs, to run its commands in."""

    def __init__(self, page: str, base: Path, name: str) -> None:
        self.folder = base / name
        self.folder.mkdir()
        self._shown = f"~/{name}"
        self._environment = {
            **os.environ,
            "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}",
            "XDG_STATE_HOME": str(base / "state"),  # what was measured here before changes nothing
            "COLUMNS": "80",
            "GIT_CONFIG_GLOBAL": os.devnull,
            **{f"GIT_{who}_NAME": "You" for who in ("AUTHOR", "COMMITTER")},
            **{f"GIT_{who}_EMAIL": "you@example.org" for who in ("AUTHOR", "COMMITTER")},
        }
        for paths in NEEDS.findall(page):
            for path in paths.split():
                shutil.copy(REPOSITORY / path, self.folder)
        (self.folder / ".gitignore").write_text("trainprof-runs/\n*.patch\n", encoding="utf-8")
        self.run("git init -q -b main . && git add . && git commit -qm 'As it was'")

    def run(self, command: str) -> str:
        """What a command prints on both channels; a command that fails is the end."""
        print(f"{PROMPT}{command}", file=sys.stderr)
        done = subprocess.run(
            ["bash", "-c", command],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise SystemExit(f"{command} ended with {done.returncode}:\n{done.stdout}")
        return done.stdout.replace(str(self.folder), self._shown)

    def run_in_terminal(self, command: str) -> str:
        """What a command writes to a terminal, colours included; one that fails is the end."""
        print(f"{PROMPT}{command}", file=sys.stderr)
        environment = {**self._environment, "TERM": "xterm-256color"}
        output, status = pexpect.run(
            "bash",
            args=["-c", command],
            cwd=str(self.folder),
            env=environment,
            dimensions=(50, 80),
            timeout=None,
            withexitstatus=True,
        )
        text: str = output.decode(errors="replace").replace("\r\n", "\n")
        if status != 0:
            raise SystemExit(f"{command} ended with {status}:\n{text}")
        return text.replace(str(self.folder), self._shown)


def refresh(path: Path) -> tuple[str, dict[str, str]]:
    """The text of a page with the outputs of today, and the pictures in it by name."""
    page = path.read_text(encoding="utf-8")
    with tempfile.TemporaryDirectory() as base:
        workplace = Workplace(page, Path(base), path.stem)
        text = refreshed(page, workplace.run)
        pictures = {
            name: drawn(workplace.run_in_terminal(command), f"{PROMPT}{command}")
            for command, name in PICTURE.findall(page)
        }
    return measured(text, time.localtime(), os.cpu_count() or 1), pictures


def main(paths: list[Path]) -> None:
    """Writes the pages and their pictures."""
    for path in paths:
        text, pictures = refresh(path)
        path.write_text(text, encoding="utf-8")
        for name, picture in pictures.items():
            (path.parent / name).parent.mkdir(exist_ok=True)
            (path.parent / name).write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
