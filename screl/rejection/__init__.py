"""Select the right completions that become training data."""
