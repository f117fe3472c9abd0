"""Rules on how operators are called: fusion, loops in Python, layout."""
