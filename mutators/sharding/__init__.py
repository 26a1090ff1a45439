"""Bugs in what is split over workers: one per file."""
