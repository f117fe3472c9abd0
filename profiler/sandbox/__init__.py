"""Runs a command such that what it writes is gone afterwards, wherever it writes.

A mount namespace shows every writable folder as an overlay (`overlay.py`).
"""
