"""Rules on the training loop and the machine that it runs on."""
