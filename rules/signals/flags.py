"""Switches of torch and of the interpreter, and the environment variables of the run."""

from __future__ import annotations

from trainprof.profiler.model.facts import FlagsFact
from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training, location

_UNITS = {"bool": "bool", "int": "count", "str": "text", "Where": "place"}

_SWITCHES = {key: str(kind) for key, kind in FlagsFact.__annotations__.items()}

DESCRIPTIONS = (
    *(
        Description(
            f"flags.{key}",
            next((unit for kind, unit in _UNITS.items() if kind in annotation), "mapping"),
            f'"{key}" of the fact "flags", as it was read last.',
        )
        for key, annotation in _SWITCHES.items()
    ),
    Description("environment.<key>", "text", "An environment variable of the run."),
)

_NOT_ON = {
    "accelerator": "no accelerator is in use",
    "anomaly_where": "anomaly detection was never switched on",
    "profiler_where": "no profiler was started",
    "python_malloc": "PYTHONMALLOC is not set",
}
"""What it means that one of these is not there, as opposed to not read."""


def measure(training: Training) -> dict[str, Signal]:
    """Signals flags.* and environment.*."""
    sheet = Sheet(DESCRIPTIONS)
    for name, setting in training.run.info.environment.items():
        sheet.put(f"environment.{name}", setting)
    readings = training.trainer.latest_facts("flags")
    reading = readings.get("steady") or readings.get("start")
    if reading is None:
        return sheet.finish("the flags were not read")
    for key in _SWITCHES:
        read = reading.data.get(key)
        value = location(read) if key.endswith("_where") else read
        sheet.put(f"flags.{key}", value, reason=_NOT_ON.get(key, "this torch does not tell it"))
    return sheet.finish("it was not read")
