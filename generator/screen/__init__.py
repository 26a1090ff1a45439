"""The screen: our own mutants, tried in forks of one warm process. A filter, never a verdict.

What passes the screen is confirmed by the judge. Only texts that we made ourselves come here: a
mutant runs in the process of its tests, with the rights of whoever runs halfhour.
"""

from .profile import Profile, kept_profile
from .screen import Run, Screen, Sifted, Unscreenable

__all__ = ["Profile", "Run", "Screen", "Sifted", "Unscreenable", "kept_profile"]
