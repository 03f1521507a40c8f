"""Grading: answers, equation paths, formulas, graders, and the verdict on a completion."""
