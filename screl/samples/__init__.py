"""Store samples, and read them from any layout, joined to their problems."""
