"""What an hour of this machine costs, as the project's settings say."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Costs:
    """Prices that only the user knows; nothing is assumed where they are not set.

    Attributes:
        price_per_hour: Of the whole run (all its machines), in `currency`.
        currency: Its name or sign, as it shall be shown.
        grid_gco2_per_kwh: Carbon intensity of the electricity.
        pue: Power usage effectiveness of the place: all its power over that of the machines.
    """

    price_per_hour: float | None = None
    currency: str = ""
    grid_gco2_per_kwh: float | None = None
    pue: float = 1.0
