"""From rows to a checkpoint: tokens, packing, the loop, sharding, and what a run needs."""
