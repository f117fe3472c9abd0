"""Rules on numeric precision."""
