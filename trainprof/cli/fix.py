"""`trainprof fix`: the fixes of a run, a script or a plan as a patch of the source."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainprof.errors import UsageError

if TYPE_CHECKING:
    from trainprof.rules.source_edits.changed_file import ChangedFile
    from trainprof.rules.source_edits.patch import SourcePatch


@click.command()
@click.argument("source", required=False, metavar="[RUN|SCRIPT|PLAN]")
@click.option(
    "--fix",
    "fixes",
    multiple=True,
    metavar="ID[:k=v,…]",
    help="Only this fix (repeatable); for a script also with its parameters and at=FILE:LINE.",
)
@click.option(
    "--diff", "only_show", is_flag=True, help="Print the diff, and write nothing (default)."
)
@click.option("--write", is_flag=True, help="Print the diff, and write it into the source.")
@click.option("--undo", is_flag=True, help="Take the last written fix back, byte for byte.")
@click.option("--quiet", is_flag=True, help="Print the diff only.")
@click.option("--no-tui", is_flag=True, help="No dashboard (there is none anyway).")
@click.option("--yes", is_flag=True, help="Ask nothing (fix asks nothing anyway).")
def fix(
    source: str | None,
    fixes: tuple[str, ...],
    only_show: bool,
    write: bool,
    undo: bool,
    quiet: bool,
    no_tui: bool,
    yes: bool,
) -> None:
    """Write fixes into the source: the smallest change, in its own style.

    RUN is a run folder or its name, the latest by default: what its findings advise, or what a tune
    kept. SCRIPT is a .py file: with --fix that fix, else the findings of its latest run. PLAN is a
    file that `trainprof tune` wrote. The diff goes to stdout; nothing is written without --write.
    What cannot be changed safely is named, with what to write by hand.
    """
    if only_show + write + undo > 1:
        raise UsageError("--diff, --write and --undo exclude each other.")
    say = _silent if quiet else _say
    if undo:
        if fixes:
            raise UsageError("--undo takes back all that was written at once; leave --fix out.")
        _undo(source)
        say("the source is as it was before.")
        return
    from trainprof.cli.fixing import patch_for, written_already

    wanted, patch = patch_for(source, fixes)
    if patch is None:
        say(written_already(wanted))
        return
    _show(patch.files)
    for note in [*patch.by_hand, *wanted.by_hand]:
        say(f"by hand: {note.sentence(Path.cwd())}")
    for name in patch.present:
        say(f"{name}: the source has it already.")
    if not patch.files:
        say("nothing is to be changed in the source.")
    elif write:
        _write(patch, say)
    else:
        words = ["trainprof", "fix", *([source] if source else [])]
        words += [word for name in fixes for word in ("--fix", name)]
        say(f"to write this into the source: {shlex.join([*words, '--write'])}")


def _show(files: Sequence[ChangedFile]) -> None:
    """The diff on stdout, in the bytes of the files; it is out before anything is written."""
    from trainprof.rules.source_edits.diff import unified_diff

    click.echo(unified_diff(tuple(files), Path.cwd()), nl=False)
    sys.stdout.flush()


def _write(patch: SourcePatch, say: Callable[[str], None]) -> None:
    from trainprof.rules.source_edits.written import write_patch

    folder = write_patch(patch.files)
    count = len(patch.files)
    say(
        f"{count} file{'s' if count > 1 else ''} written ({', '.join(dict.fromkeys(patch.made))}); "
        f"`trainprof fix --undo` takes it back, the old bytes are in {folder}."
    )


def _undo(source: str | None) -> None:
    from trainprof.rules.source_edits.written import last_written, take_back

    paths = None
    if source is not None and source.endswith(".py"):
        paths = [str(Path(source).resolve())]
    elif source is not None:
        from trainprof.cli.fixing import wanted_of

        paths = wanted_of(source, ()).files
    folder, files = last_written(paths)
    _show(files)
    take_back(folder, files)


def _say(text: str) -> None:
    print(f"trainprof: {text}", file=sys.stderr, flush=True)


def _silent(text: str) -> None:
    """With --quiet."""
