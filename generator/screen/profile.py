"""Which lines of the correct file each promise runs, and how deep below the call of the test."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from ..cache import ProofCache


@dataclass(frozen=True, slots=True)
class Profile:
    """One traced run of all promises on the correct file."""

    depths: Mapping[str, Mapping[int, int]]
    """Per promise the lines it runs, each with the fewest frames of the file that lead there."""
    kinds: Mapping[str, str] = field(default_factory=dict)
    """What each local variable held, by `function.variable` (see `tracer.kind`).

    Without those that held things of several kinds.
    """

    @property
    def lines(self) -> frozenset[int]:
        """Every line that some promise runs."""
        return frozenset(line for lines in self.depths.values() for line in lines)

    def as_json(self) -> dict[str, dict[str, int]]:
        """Return what `from_json` takes."""
        return {
            name: {str(line): depth for line, depth in lines.items()}
            for name, lines in self.depths.items()
        }

    @classmethod
    def from_json(cls, found: Mapping[str, Mapping[str, int]]) -> Profile:
        """Return the profile that `as_json` wrote down."""
        return cls({n: {int(k): v for k, v in lines.items()} for n, lines in found.items()})


def kept_profile(cache: ProofCache, key: str, trace: Callable[[], Profile]) -> Profile:
    """Return the profile kept under the key; else trace it, and keep it. Kinds are not kept."""
    match cache.get(key):
        case {"depths": dict(depths)}:
            return Profile.from_json(depths)
    found = trace()
    cache.put(key, {"depths": found.as_json()})
    return found
