"""Lets the tests of this folder say `from builders import ...`; properties have no deadline."""

import sys
from pathlib import Path

from hypothesis import settings

sys.path.insert(0, str(Path(__file__).parent))

# On a busy machine an example may take long for no reason of ours.
settings.register_profile("no deadline", deadline=None)
settings.load_profile("no deadline")
