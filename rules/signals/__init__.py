"""From a recorded training to its signals: one file per topic, pure functions."""
