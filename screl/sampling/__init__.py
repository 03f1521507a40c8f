"""Sample completions from a checkpoint: requests, engines, workers and their scheduler."""
