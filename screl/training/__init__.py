"""Train a model: tokens, packing, the loop, sharding, checkpoints, and the plan of a run."""
