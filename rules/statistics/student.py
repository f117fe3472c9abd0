"""Student's t distribution, by numbers: quantiles for intervals over a handful of pairs."""

from __future__ import annotations

import math
from functools import cache

import numpy as np

_POINTS = 2_001
"""Of Simpson's rule; the quantiles are then right to six digits."""


def student_cdf(t: float, degrees: int) -> float:
    """The probability of a value below `t`."""
    if t < 0:
        return 1.0 - student_cdf(-t, degrees)
    # Substituting t = tan(angle) * sqrt(degrees) makes the range finite and the integrand smooth.
    angle = math.atan(t / math.sqrt(degrees))
    angles = np.linspace(0.0, angle, _POINTS)
    values = np.cos(angles) ** (degrees - 1)
    weights = np.ones(_POINTS)
    weights[1:-1:2], weights[2:-1:2] = 4.0, 2.0
    integral = float((weights * values).sum()) * angle / (_POINTS - 1) / 3.0
    scale = math.exp(math.lgamma((degrees + 1) / 2) - math.lgamma(degrees / 2)) / math.sqrt(math.pi)
    return 0.5 + scale * integral


@cache
def student_quantile(probability: float, degrees: int) -> float:
    """The value below which lies `probability`, 0.5 to 1.

    Raises:
        ValueError: no degree of freedom, or a probability outside of [0.5, 1).
    """
    if degrees < 1 or not 0.5 <= probability < 1.0:
        raise ValueError(f"no quantile {probability} with {degrees} degrees of freedom")
    low, high = 0.0, 2.0
    while student_cdf(high, degrees) < probability:
        high *= 2.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if student_cdf(middle, degrees) < probability else (low, middle)
    return (low + high) / 2
