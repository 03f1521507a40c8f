"""maj@k and pass@k with intervals, comparisons, breakdowns, tables."""
