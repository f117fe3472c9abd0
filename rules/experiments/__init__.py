"""Baseline against candidate: trials in fresh processes, pairs, and a verdict that can be no."""
