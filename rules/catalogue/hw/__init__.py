"""Rules on the hardware: its use and its cost."""
