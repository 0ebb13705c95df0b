"""The rule of a composite alarm: ALARM("arn"), OK("arn"), INSUFFICIENT_DATA("arn"), AND, OR, NOT and parentheses.

docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutCompositeAlarm.html
"""

import re
from collections.abc import Mapping
from typing import Final

from emulation.templates.deployment import UnsupportedError

_TOKEN: Final = re.compile(r'\s*(?:(AND|OR|NOT)\b|(ALARM|OK|INSUFFICIENT_DATA)\(\s*"?([^")]+)"?\s*\)|([()]))\s*')


def holds(rule: str, states: Mapping[str, str]) -> bool:
    """Tell whether a rule holds for the states of alarms by ARN. AND binds more tightly than OR.

    Raises:
        UnsupportedError: if the rule is not understood, or names an alarm that is not there.
    """
    return _Parser(rule, states).parse()


class _Parser:
    def __init__(self, rule: str, states: Mapping[str, str]) -> None:
        self._rule = rule
        self._states = states
        self._position = 0

    def parse(self) -> bool:
        value = self._either()
        if self._position != len(self._rule):
            raise self._unsupported()
        return value

    def _either(self) -> bool:
        value = self._both()
        while self._takes("OR"):
            value = self._both() or value
        return value

    def _both(self) -> bool:
        value = self._single()
        while self._takes("AND"):
            value = self._single() and value
        return value

    def _single(self) -> bool:
        if self._takes("NOT"):
            return not self._single()
        if self._takes("("):
            value = self._either()
            if not self._takes(")"):
                raise self._unsupported()
            return value
        match = _TOKEN.match(self._rule, self._position)
        if match is None or match[2] is None or match[3] not in self._states:
            raise self._unsupported()
        self._position = match.end()
        return self._states[match[3]] == match[2]

    def _takes(self, word: str) -> bool:
        match = _TOKEN.match(self._rule, self._position)
        if match is None or word not in (match[1], match[4]):
            return False
        self._position = match.end()
        return True

    def _unsupported(self) -> UnsupportedError:
        rest = self._rule[self._position :]
        return UnsupportedError(
            f"the rule {self._rule!r} is not understood from {rest!r}; alarms: {list(self._states)}"
        )
