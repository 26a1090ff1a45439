"""The bugs that really shipped, one per file."""
