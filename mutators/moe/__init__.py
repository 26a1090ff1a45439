"""Bugs in mixtures of experts: one per file."""
