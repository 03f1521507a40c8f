"""Which right completions become training data."""
