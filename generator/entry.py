"""Where the command `halfhour` begins: so light that Ctrl-C is answered from the first moment."""

import sys


def main() -> None:
    """Run the command line, which exits with its code."""
    try:
        from .cli import main as command
    except KeyboardInterrupt:
        sys.exit(130)
    command()
