"""Lets the tests of this folder say `from zoo.judge import ...`, as `make zoo` does."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))
