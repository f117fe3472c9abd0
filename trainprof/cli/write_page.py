"""Writes docs/commands.md from the commands themselves: `python -m trainprof.cli.write_page`."""

from __future__ import annotations

import inspect
from pathlib import Path

import click

from trainprof.cli.main import COMMANDS, LazyGroup, cli

PAGE = Path("docs", "commands.md")

_HEAD = """# Commands

Written by `python -m trainprof.cli.write_page`; not edited by hand. `trainprof COMMAND --help`
prints the same.

Exit statuses: `run` gives that of your script; else 0 is success, 2 a command line or a run that
cannot be used (one sentence says which), and 130 an interrupt. Where a command uses others, it
says so.
"""


def page() -> str:
    """The whole page in Markdown."""
    group = cli
    assert isinstance(group, LazyGroup)
    context = click.Context(group, info_name="trainprof")
    parts = [_HEAD]
    for name in COMMANDS:
        command = group.get_command(context, name)
        assert command is not None
        parts.append(_section(command, click.Context(command, context, info_name=name)))
    return "\n".join(parts)


def _section(command: click.Command, context: click.Context) -> str:
    usage = " ".join(command.collect_usage_pieces(context))
    parts = [
        f"## trainprof {context.info_name}",
        f"```text\n{context.command_path} {usage}\n```",
        inspect.cleandoc(command.help or ""),
    ]
    rows = [
        f"| {_names(one)} | {_described(one)} |"
        for one in command.params
        if isinstance(one, click.Option) and not one.hidden
    ]
    if rows:
        parts.append("\n".join(["| option | what it does |", "|---|---|", *rows]))
    return "\n\n".join(parts) + "\n"


def _names(option: click.Option) -> str:
    kind = _kind(option)
    names = "`, `".join(option.opts)
    if option.secondary_opts:
        names += "`, `" + "`, `".join(option.secondary_opts)
    return f"`{names}`" + (f" `{kind.replace('|', '/')}`" if kind else "")


def _kind(option: click.Option) -> str:
    """What stands behind the option: its metavar, the choices, or the name of its type."""
    if option.is_flag or option.count:
        return ""
    if option.metavar:
        return option.metavar
    if isinstance(option.type, click.Choice):
        return "/".join(str(choice) for choice in option.type.choices)
    name = option.type.name.removesuffix(" range")
    return name.upper() if name.islower() else name


def _described(option: click.Option) -> str:
    said = " ".join((option.help or "").split()).replace("|", "\\|")
    notes = []
    if option.required:
        notes.append("required")
    if option.show_default is True and not option.is_flag and option.default is not None:
        notes.append(f"default: {option.default}")
    if isinstance(option.envvar, str):
        notes.append(f"environment: `{option.envvar}`")
    return said + (f" ({'; '.join(notes)})" if notes else "")


def main(page_file: Path = PAGE) -> None:
    """Writes the page."""
    page_file.write_text(page(), encoding="utf-8")


if __name__ == "__main__":
    main()
