"""The papers' numbers, fits, claims, figures, reports and costs."""
