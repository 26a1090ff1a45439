"""Puzzles as candidates get them: data, imported by nobody."""
