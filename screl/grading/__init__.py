"""What is right: answers, equation paths, formulas, graders, the verdict on a completion."""
