"""The fixes: one per file, each with its run-time half and its source half.

The run-time half lives in the user's process: standard library at the top of the file, and only
relative imports. The agent imports it by name, as a plan asks for it.
"""
