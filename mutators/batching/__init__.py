"""Bugs in batching: one per file."""
