"""One week's puzzles for others to solve: drawn, proven, written as two zips and a page."""
