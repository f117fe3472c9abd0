"""What measures: the agent inside the training process, the samplers outside it, and the store."""
