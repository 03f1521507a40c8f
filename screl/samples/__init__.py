"""The sample store, and readers of the published layout and of JSONL, joined to problems."""
