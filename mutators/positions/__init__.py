"""Bugs in positions: one per file."""
