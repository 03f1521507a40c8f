"""Provide what all stages share: files, command lines, problems, run.json, and costs."""
