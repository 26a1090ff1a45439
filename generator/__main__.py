"""`python -m halfhour.generator` is the command `halfhour`."""

from .entry import main

main()
