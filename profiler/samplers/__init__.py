"""Looks at the machine, the process tree and the GPUs, from outside of the training."""
