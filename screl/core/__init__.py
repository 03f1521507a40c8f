"""Shared by all stages: files, command lines, problems, run.json, costs."""
