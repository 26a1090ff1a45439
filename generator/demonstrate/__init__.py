"""The smallest script that shows a bug: cut from the test of a promise that the bug breaks.

A demonstration is found by running, never by reading: it prints different things beside the
correct and the buggy file. Only texts that we made ourselves come here, as in the screen.
"""

from .demonstrator import Demonstrator

__all__ = ["Demonstrator"]
