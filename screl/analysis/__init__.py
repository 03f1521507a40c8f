"""Compare runs with the papers: published numbers, fits, claims, figures, reports and costs."""
