"""Numbers for readers. Whatever is missing or not finite is "not measured", never nan."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

LARGEST_FACTOR = 1000
WIDE = 5  # units of the last digit shown that an interval is wide at least
MOST_DIGITS = 7
SMALLEST_ERROR = 5e-4  # below, an error of 0.1 % is rounded to none
SMALLEST_EXPONENT = 1e-4  # a change of 0.5 % in twenty decades
SMALLEST_COUNT, LARGEST_COUNT = 1e-3, 1e15
MISSING = "not measured"
TIMES, MINUS, NOTHING = "\N{MULTIPLICATION SIGN}", "\N{MINUS SIGN}", "\N{EN DASH}"
_SUPERSCRIPTS = str.maketrans("0123456789-", "⁰¹²³⁴⁵⁶⁷⁸⁹⁻")
_UNITS = ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k"))


def known(value: float | None) -> TypeGuard[float]:
    """Tell whether there is a finite number."""
    return value is not None and math.isfinite(value)


def positive(value: float | None) -> TypeGuard[float]:
    """Tell whether there is a finite number greater than zero, as a log axis needs."""
    return value is not None and math.isfinite(value) and value > 0


def number(value: float | None, digits: int = 3) -> str:
    """Write `digits` significant digits: 0.0321, 1.05, 82.4, 1,230, 2e7 as a power of ten."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value == 0:
        return "0"
    value = float(f"{value:.{digits - 1}e}")  # first, since 0.09999 has the digits of 0.100
    magnitude = math.floor(math.log10(abs(value)))
    if magnitude >= 6 or magnitude < -4:
        return power_of_ten(value, digits)
    decimals = digits - 1 - magnitude
    return f"{value:,.{max(decimals, 0)}f}".replace("-", MINUS)


def count(value: float | None) -> str:
    """Write parameters or samples: 350, 10k, 1.25M, 3B; what no model or corpus has as a power of ten."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value > 0 and not SMALLEST_COUNT <= value < LARGEST_COUNT:
        return power_of_ten(value)
    for unit, letter in _UNITS:
        if abs(value) >= unit * 0.9995:
            return f"{value / unit:.3g}{letter}" if abs(value) < 999.5 * unit else f"{value / unit:.0f}{letter}"
    return f"{value:.3g}"


def counted(number: int, noun: str) -> str:
    """Write how many there are: 1 cell, 2 cells, 3 steps of compute."""
    first, of, rest = noun.partition(" of ")
    return f"{number:,} {first}{'' if number == 1 else 's'}{of}{rest}"


def duration(seconds: float) -> str:
    """Write a time in one or two units: 40 s, 1 min 30 s, 12 min, 3 h 20 min, 52 h, 1,230 h."""
    if seconds < 59.5:
        return f"{max(1, round(seconds))} s"
    minutes = round(seconds / 60)
    if minutes < 10:
        whole, rest = divmod(round(seconds), 60)
        return f"{whole} min {rest} s" if rest else f"{whole} min"
    hours = minutes // 60
    if not hours:
        return f"{minutes} min"
    return f"{hours} h {minutes % 60} min" if hours < 24 else f"{round(seconds / 3600):,} h"


def in_text(name: str) -> str:
    """Write a name within a sentence: what follows its comma in parentheses, "saturating (no bounds)"."""
    first, comma, rest = name.partition(", ")
    return f"{first} ({rest})" if comma else first


def listed(parts: Sequence[str]) -> str:
    """Write a list in a sentence: a, b and c."""
    return " and ".join(filter(None, (", ".join(parts[:-1]), *parts[-1:])))


def power_of_ten(value: float | None, digits: int = 3) -> str:
    """Write FLOPs: 1e12 is 10¹², 3e11 is 3 times 10¹¹ with a multiplication sign."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value <= 0:
        return "0" if value == 0 else MINUS + power_of_ten(-value, digits)
    exponent = math.floor(math.log10(value))
    mantissa = f"{value / 10.0**exponent:.{digits}g}"
    if mantissa == "10":
        mantissa, exponent = "1", exponent + 1
    power = "10" + str(exponent).translate(_SUPERSCRIPTS)
    return power if mantissa == "1" else f"{mantissa}{TIMES}{power}"


def exponent(value: float | None, digits: int = 2) -> str:
    """Write the exponent of a law, never with a power of ten: 0.52, 0.0031, and 0 for what changes nothing."""
    return "0" if known(value) and abs(value) < SMALLEST_EXPONENT else number(value, digits)


def budget(value: float | None) -> str:
    """Write the compute budget of a checkpoint, taken a little after it is crossed: 3.004e11 is 3e11."""
    return power_of_ten(value, 2)


def percent(value: float | None, form: str = ".0%") -> str:
    """Write a share: 0.953 is 95%."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:{form}}".replace("-", MINUS)


def off(log_error: float | None, *, short: bool = False) -> str:
    """Write how far off a forecast was, from |ln(forecast / truth)|: 1.8%, 45%, from 100% on "a factor 3.2" or 3.2x."""
    if log_error is None or not math.isfinite(log_error):
        return MISSING
    if log_error < SMALLEST_ERROR:
        return "under 0.1%"
    if log_error < math.log(2):
        return percent(math.expm1(log_error), ".1%" if log_error < math.log(1.1) else ".0%")
    if log_error >= math.log(LARGEST_FACTOR):
        return f">{LARGEST_FACTOR:,}{TIMES}" if short else f"over a factor {LARGEST_FACTOR:,}"
    factor = number(math.exp(log_error), 2)
    return f"{factor}{TIMES}" if short else f"a factor {factor}"


def digits_of(low: float | None, high: float | None, least: int = 3) -> int:
    """Return with how many digits the ends of an interval differ clearly: `least` or more, up to MOST_DIGITS."""
    if not (known(low) and known(high)) or low == high == 0:
        return least
    width = abs(high - low)
    needed = _magnitude(max(abs(low), abs(high))) - _magnitude(width / WIDE) + 1 if width else MOST_DIGITS
    return max(least, min(needed, MOST_DIGITS))


def _magnitude(value: float) -> int:
    return math.floor(math.log10(value))


def between(low: float | None, high: float | None, digits: int = 3) -> str:
    """Write an interval: "0.41 to 0.63"; one end alone is "above 0.41" or "below 0.63"; "" without either.

    digits: the fewest; a narrow one has more. One narrower than MOST_DIGITS is written by a bound, "± under 0.0000001".
    """
    digits = digits_of(low, high, digits)
    if known(low) and known(high):
        first, last = number(low, digits), number(high, digits)
        if first != last or low == 0:
            return f"{first} to {last}"
        return f"± under {number(10.0 ** (_magnitude(abs(low)) - digits + 1), 1)}"
    if known(low):
        return f"above {number(low, digits)}"
    return f"below {number(high, digits)}" if known(high) else ""


def interval_of(row: Mapping[str, Any], of: str = "", digits: int = 3) -> str:
    """Write the interval of a row of the fit, or why it is missing; "" where the fit gives none."""
    return between(row.get(of + "low"), row.get(of + "high"), digits) or str(row.get(of + "reason") or "")


def as_fine(value: float | None, row: Mapping[str, Any], of: str = "", digits: int = 3) -> str:
    """Write a value with the digits of the interval of a row of the fit."""
    return number(value, digits_of(row.get(of + "low"), row.get(of + "high"), digits))


def with_interval(row: Mapping[str, Any], of: str = "", digits: int = 3) -> str:
    """Write the value of a row of the fit and its interval: 0.52 (0.41 to 0.63); of: prefix of their names."""
    value, span = row.get(of + "value"), interval_of(row, of, digits)
    if not known(value):
        return span or MISSING
    return as_fine(value, row, of, digits) + (f" ({span})" if span else "")


def digits_among(values: Sequence[float]) -> int:
    """Return with how many digits values that lie beside each other are written, at least 3."""
    return digits_of(min(values), max(values)) if len(set(values)) > 1 else 3


def told_apart(values: Sequence[float], first: int | None = None) -> list[str]:
    """Write values with as many digits as tell the `first` of them, or all, apart; at least 3."""
    texts, seen = list[str](), values[:first]
    for digits in range(digits_among(seen), MOST_DIGITS + 1):
        texts = [number(value, digits) for value in values]
        if len(set(texts[:first])) == len(set(seen)):
            break
    return texts


def with_error(value: float | None, error: float | None, least: int = 3) -> str:
    """Write a mean, with at least so many digits, and its standard error: 82.4 ± 3.1, 0.69023 ± 0.00012."""
    if not (known(value) and known(error)):
        return number(value, least)
    fine = _magnitude(abs(value)) - _magnitude(error) + 2 if value and error > 0 else least
    return f"{number(value, max(least, min(fine, MOST_DIGITS)))} ± {number(error, 2)}"
