"""From the fixes of a plan to a patch of the user's own source, byte for byte but for the change.

Python's `ast` finds the place; LibCST (the extra `tune`) rewrites that call or statement and leaves
its layout alone; the result is put back between bytes that were never touched.
"""
