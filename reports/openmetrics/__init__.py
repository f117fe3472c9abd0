"""A run as metrics for Prometheus: what was seen so far, and its text."""
