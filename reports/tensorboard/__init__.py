"""A run for TensorBoard: curves, findings, the picture of a step, trials; never imports torch."""
