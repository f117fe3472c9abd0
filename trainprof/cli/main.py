"""The `trainprof` command: only here are errors printed and exit statuses chosen."""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING

import click

from trainprof.errors import TrainprofError

if TYPE_CHECKING:
    from trainprof.cli.reading_ahead import Ahead

COMMANDS = {
    "run": "trainprof.cli.run:run",
    "diagnose": "trainprof.cli.diagnose:diagnose",
    "top": "trainprof.cli.top:top",
    "trace": "trainprof.cli.trace:trace",
    "tune": "trainprof.cli.tune:tune",
    "fix": "trainprof.cli.fix:fix",
    "compare": "trainprof.cli.compare:compare",
    "report": "trainprof.cli.report:report",
    "export": "trainprof.cli.export:export",
    "demo": "trainprof.cli.demo:demo",
    "runs": "trainprof.cli.runs:runs",
    "rules": "trainprof.cli.rules:rules",
    "doctor": "trainprof.cli.doctor:doctor",
    "schema": "trainprof.cli.schema:schema",
}
"""Name -> where its click command lives. Loaded when used, so that `run` starts fast."""


class LazyGroup(click.Group):
    """A group that imports a command's module only when that command is asked for."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names of the commands, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command `name`, imported now; None where there is none."""
        if name not in COMMANDS:
            return None
        module, _, attribute = COMMANDS[name].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command


@click.group(
    cls=LazyGroup,
    invoke_without_command=True,
    context_settings={"help_option_names": ["-h", "--help"]},
)
@click.version_option(package_name="trainprof", prog_name="trainprof")
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Runs your unmodified PyTorch training and says where every second goes, and why."""
    if ctx.invoked_subcommand is None:
        click.echo(ctx.get_help(), err=True)
        ctx.exit(2)


def main(argv: list[str] | None = None, ahead: Ahead | None = None) -> int:
    """Runs the command line and returns the exit status: 2 for usage errors and failures of ours.

    A write to stdout that fails (a full disk) is an error like any other, so it is flushed here.

    Args:
        argv: The words after the program's name; those of this process by default.
        ahead: Has begun to read the trace that they name.
    """
    if sys.platform == "win32":
        return _failed("Windows is not supported; run trainprof under Linux, for instance in WSL.")
    try:
        result = cli.main(args=argv, prog_name="trainprof", standalone_mode=False, obj=ahead)
        if sys.stdout is not None:  # closed by `>&-`
            sys.stdout.flush()
    except (KeyboardInterrupt, click.exceptions.Abort):
        return 130
    except TrainprofError as error:
        return _failed(str(error))
    except click.ClickException as error:
        return _failed(_sentence(error))
    except OSError as error:
        return _failed(f"{error.filename or 'the output'} failed: {error.strerror or error}.")
    return result if isinstance(result, int) else 0


def _failed(sentence: str) -> int:
    print(f"trainprof: {sentence}", file=sys.stderr)
    return 2


def _sentence(error: click.ClickException) -> str:
    """What click says, and where to read how it is done."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    message = error.format_message().rstrip(".")
    return f"{message}; see `{context.command_path} --help`." if context else f"{message}."
