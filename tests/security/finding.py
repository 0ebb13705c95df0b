"""What a rule found."""

from typing import NamedTuple


class Finding(NamedTuple):
    """One resource that breaks one rule."""

    rule: str
    """Name of the rule's function."""
    where: str
    """Logical id of the resource; for an acknowledgement its construct path."""
    problem: str
    """What is wrong, the value given, and the fix."""

    def __str__(self) -> str:
        return f"{self.where}: {self.problem} [{self.rule}]"
