"""Lets the tests of this folder import its modules by name; properties have no deadline."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
