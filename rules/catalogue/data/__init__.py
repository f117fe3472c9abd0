"""Rules on how batches come to the training loop."""
