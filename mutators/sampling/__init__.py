"""Bugs in sampling: one per file."""
