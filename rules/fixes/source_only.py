"""Changes of the source that no fix makes at run time, by the id of the advice.

Standard library only, like the rest of this package.
"""

from __future__ import annotations

from collections.abc import Mapping

from .source_edit import Detached, SourceEdit

SOURCE_ONLY: Mapping[str, SourceEdit] = {"loss-detach": Detached()}
"""Each for the line of the finding."""
