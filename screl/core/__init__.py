"""What every stage uses: files, command lines, problems, run.json, costs."""
