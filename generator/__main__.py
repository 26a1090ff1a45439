"""`python -m halfhour.generator` is the command `halfhour`."""

from .cli import main

main()
