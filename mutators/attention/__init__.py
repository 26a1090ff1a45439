"""Bugs in attention: one per file."""
