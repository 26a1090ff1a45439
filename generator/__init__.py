"""The machine: plants bugs, proves puzzles, judges fixes."""
