"""Runs a command such that what it writes is gone afterwards, wherever it writes.

Two ways: a mount namespace in which every writable folder is an overlay (`overlay.py`), or, where
the system has none, files that are copied before they change and put back (`write_watch.py`,
`journal.py`).
"""
