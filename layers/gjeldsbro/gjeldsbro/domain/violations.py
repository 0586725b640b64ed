"""The faults of a message: the first of them, and how many there are."""

from gjeldsbro.errors import InvalidMessageError, Violation

MAX_VIOLATIONS = 20
"""Faults that an answer lists; the rest are counted (contract, push, 400)."""


class Violations:
    """The faults of one message: the first ``limit`` of them, and how many there are."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.first: list[Violation] = []
        self.total = 0

    def add(self, *violations: Violation) -> None:
        """Take in faults, in document order."""
        self.total += len(violations)
        self.first += violations[: max(0, self._limit - len(self.first))]

    def take(self, error: InvalidMessageError) -> None:
        """Take in the faults of an error."""
        self.add(*error.violations)

    def __bool__(self) -> bool:
        return self.total > 0
