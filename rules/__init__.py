"""What knows: signals, the rule catalogue and the engine that turns a run into a diagnosis."""
