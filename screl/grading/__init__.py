"""Grade completions: answers, equation paths, formulas, graders, and verdicts."""
