"""Lets the tests of this folder say `from run_writer import ...`."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
