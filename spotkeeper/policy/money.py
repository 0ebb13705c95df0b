"""Money as whole micro-dollars: exact, comparable in one condition of a ledger, and never a float.

A micro-dollar is a millionth of a US dollar; the cheapest instance costs about one a second.
"""

import re
from decimal import ROUND_CEILING, Decimal
from typing import Final

MICROUSD_PER_USD: Final = 1_000_000
MAX_USD: Final = 10_000_000
"""No cap of a person is above ten million dollars: more is a slip of the keyboard, or 1e308."""
_SECONDS_PER_HOUR: Final = 3600
_USD = re.compile(r"\$?(?P<whole>[0-9]{1,8})(\.(?P<cents>[0-9]{1,6}))?")


def parse_usd(text: str, *, what: str = "an amount") -> int:
    """Return the micro-dollars that a person wrote, such as `20`, `$20` or `12.50`.

    Raises:
        ValueError: naming `what`, the text and what is allowed; commas, signs, exponents, NaN and infinity are refused,
            because `10,00` is ten dollars to some and a thousand to others.
    """
    match = _USD.fullmatch(text.strip())
    if match is None:
        raise ValueError(
            f"{what} must be US dollars as plain digits with at most six decimals after a point, such as 20 or 12.50 "
            f"(no comma, sign or exponent), got {text!r}"
        )
    microusd = int(match["whole"]) * MICROUSD_PER_USD + int((match["cents"] or "").ljust(6, "0"))
    return check_microusd(microusd, what=what)


def check_microusd(microusd: int, *, what: str = "an amount") -> int:
    """Return the amount if it is a whole number from 0 to `MAX_USD` dollars.

    Raises:
        ValueError: naming `what` and the range.
    """
    if type(microusd) is not int or not 0 <= microusd <= MAX_USD * MICROUSD_PER_USD:
        raise ValueError(f"{what} must be from $0 to ${MAX_USD:,} in whole micro-dollars, got {microusd!r}")
    return microusd


def format_usd(microusd: int) -> str:
    """Return the amount for people, such as `$12.50`, exact where cents do not suffice."""
    sign, amount = ("-" if microusd < 0 else ""), abs(microusd)
    whole, rest = divmod(amount, MICROUSD_PER_USD)
    digits = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{sign}${whole:,}.{digits}"


def cost_microusd(usd_per_hour: Decimal, seconds: float) -> int:
    """Return what a machine costs for so long, rounded up to the micro-dollar: a reservation is never too small."""
    # To the microsecond: what a float is off by beyond that would be rounded up to a micro-dollar of its own.
    exact = usd_per_hour * Decimal(f"{seconds:.6f}") * MICROUSD_PER_USD / _SECONDS_PER_HOUR
    return int(exact.to_integral_value(rounding=ROUND_CEILING))
