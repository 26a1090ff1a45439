"""An ISO week: seven days from a Monday, counted within a year of 52 or 53 weeks."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import date, timedelta

from ..errors import UsageError

_NAME = re.compile(r"(2[0-9]{3})-W([0-9]{2})")


@dataclass(frozen=True, slots=True, order=True)
class Week:
    """A week that exists; raises UsageError for one that does not."""

    year: int
    number: int

    def __post_init__(self) -> None:
        if not 1 <= self.number <= self._in_year:
            raise UsageError(
                f"{self.name} is no week: {self.year} has {self._in_year} weeks,"
                f" {self.year}-W01 to {self.year}-W{self._in_year}"
            )

    @classmethod
    def parse(cls, text: str, today: date) -> Week:
        """Return the week that `2026-W48`, `this` or `next` names. Raises UsageError."""
        if text in ("this", "next"):
            return cls.of(today + timedelta(weeks=text == "next"))
        return cls.named(text)

    @classmethod
    def named(cls, name: str) -> Week:
        """Return the week of that name. Raises UsageError where it is none."""
        found = _NAME.fullmatch(name)
        if not found:
            raise UsageError(f"{name!r} is no week: write it as 2026-W48, or this, or next")
        return cls(int(found[1]), int(found[2]))

    @classmethod
    def of(cls, day: date) -> Week:
        """Return the week that a day lies in."""
        year, number, _ = day.isocalendar()
        return cls(year, number)

    @property
    def name(self) -> str:
        return f"{self.year}-W{self.number:02d}"

    @property
    def monday(self) -> date:
        return date.fromisocalendar(self.year, self.number, 1)

    def plus(self, weeks: int) -> Week:
        """Return the week so many weeks later."""
        return Week.of(self.monday + timedelta(weeks=weeks))

    def minus(self, weeks: int) -> Week:
        """Return the week so many weeks earlier."""
        return self.plus(-weeks)

    @property
    def _in_year(self) -> int:
        """The 28th of December always lies in the last week of its year."""
        return date(self.year, 12, 28).isocalendar().week
