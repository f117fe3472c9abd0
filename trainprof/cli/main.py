"""The `trainprof` command: only here are errors printed and exit statuses chosen."""

from __future__ import annotations

import sys
from importlib import import_module

import click

from trainprof.errors import TrainprofError

COMMANDS = {
    "run": "trainprof.cli.run:run",
    "runs": "trainprof.cli.runs:runs",
}
"""Name -> where its click command lives. Loaded when used, so that `run` starts fast."""


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="trainprof", prog_name="trainprof")
def cli() -> None:
    """Runs your unmodified PyTorch training and says where every second goes, and why."""


def main(argv: list[str] | None = None) -> int:
    """Runs the command line and returns the exit status (DESIGN 4)."""
    try:
        result = cli.main(args=argv, prog_name="trainprof", standalone_mode=False)
    except TrainprofError as error:
        print(f"trainprof: {error}", file=sys.stderr)
        return 2
    except click.exceptions.Abort:
        return 130
    except click.ClickException as error:
        print(f"trainprof: {error.format_message()}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return result if isinstance(result, int) else 0
