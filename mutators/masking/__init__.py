"""Bugs in masking: one per file."""
