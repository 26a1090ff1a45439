"""How long and how large a submission may be while it is judged."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    start_s: float = 60.0
    """For the court, and for a worker, to import torch; our time, not the submission's."""
    load_s: float = 10.0
    """For importing the submission."""
    call_s: float = 5.0
    """For one call, with everything that is called back meanwhile."""
    verdict_s: float = 60.0
    """For everything together."""
    message_bytes: int = 64 << 20
    """For what one call passes in, and for what it returns."""
    trial_bytes: int = 1 << 30
    """For all that is returned in one trial: a test may keep it, and so would hold it in memory."""
    output_bytes: int = 64 << 10
    """Kept of what the submission prints; the rest is dropped."""
    memory_bytes: int = 2 << 30
    """For the submission's own data, on rungs whose kernel counts it."""
    cpu_s: int = 60
    """Of the processor's time, kept by the kernel should the clock on the wall not be."""


PRACTICE = Limits()
INTERVIEW = Limits(load_s=5.0, verdict_s=30.0, memory_bytes=1 << 30, cpu_s=30)
"""For the files of others: less to waste, as many of them wait."""
