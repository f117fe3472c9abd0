"""Rules on the choice of hyper-parameters."""
