"""Rules on smaller models: pruning and lower precision."""
