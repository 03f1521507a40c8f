"""Score samples: maj1@k and pass@k with intervals, comparisons, breakdowns, and tables."""
