"""From a checkpoint to samples: requests, engines, workers and their scheduler."""
