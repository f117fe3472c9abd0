"""Settings of a project: `[tool.trainprof]` in pyproject.toml and TRAINPROF_* variables.

A command-line option wins over a variable, and a variable over the file.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from trainprof.errors import UsageError

FAIL_ON = ("warn", "critical")


class Settings(
    msgspec.Struct, frozen=True, kw_only=True, rename="kebab", forbid_unknown_fields=True
):
    """What a project asks for at every diagnosis; the fields are the keys of its table.

    Attributes:
        select: Only these rules; empty for all.
        ignore: Never these rules.
        fail_on: Lowest severity that makes `diagnose` exit 1, None for never.
        price_per_hour: Of the machines that a run takes, in `currency`.
        currency: Name or sign of the money.
        grid_gco2_per_kwh: Carbon intensity of the electricity.
        pue: Power usage effectiveness of the place, 1 or more.
        calibration: Whether what tunes have measured is held against new predictions.
    """

    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    fail_on: Literal["warn", "critical"] | None = None
    price_per_hour: Annotated[float, msgspec.Meta(ge=0)] | None = None
    currency: str = ""
    grid_gco2_per_kwh: Annotated[float, msgspec.Meta(ge=0)] | None = None
    pue: Annotated[float, msgspec.Meta(ge=1)] = 1.0
    calibration: bool = True


class _Tools(msgspec.Struct):
    trainprof: Settings | None = None


class _Project(msgspec.Struct):
    tool: _Tools = msgspec.field(default_factory=_Tools)


def load_settings(
    folder: Path | None = None, environment: Mapping[str, str] = os.environ
) -> Settings:
    """Reads the settings that hold in `folder` (default: the working directory).

    The nearest pyproject.toml upwards that has a `[tool.trainprof]` table counts.

    Raises:
        UsageError: the file is no TOML, or a setting is unknown or of the wrong kind.
    """
    settings = _nearest_table(Path.cwd() if folder is None else folder)
    if "TRAINPROF_SELECT" in environment:
        select = _words(environment["TRAINPROF_SELECT"])
        settings = msgspec.structs.replace(settings, select=select)
    if "TRAINPROF_IGNORE" in environment:
        ignore = _words(environment["TRAINPROF_IGNORE"])
        settings = msgspec.structs.replace(settings, ignore=ignore)
    if "TRAINPROF_FAIL_ON" in environment:
        fail_on = environment["TRAINPROF_FAIL_ON"].strip() or None
        if fail_on not in (*FAIL_ON, None):
            raise UsageError(f"TRAINPROF_FAIL_ON is {fail_on!r}; set it to warn or critical.")
        settings = msgspec.structs.replace(settings, fail_on=fail_on)
    return settings


def _nearest_table(folder: Path) -> Settings:
    for parent in (folder.absolute(), *folder.absolute().parents):
        path = parent / "pyproject.toml"
        try:
            project = msgspec.toml.decode(path.read_bytes(), type=_Project)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as error:
            raise UsageError(
                f"{path} cannot be read ({error.strerror}); check its rights."
            ) from None
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UsageError(f"{path} holds settings that cannot be used: {error}.") from None
        if project.tool.trainprof is not None:
            return project.tool.trainprof
    return Settings()


def _words(text: str) -> tuple[str, ...]:
    return tuple(part.strip() for part in text.split(",") if part.strip())
