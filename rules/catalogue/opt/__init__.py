"""Rules on the optimizer's step."""
