"""Bugs in numerics: one per file."""
