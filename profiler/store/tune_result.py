"""Reads what a tune has found back."""

from __future__ import annotations

from pathlib import Path

import msgspec

from trainprof.errors import RunFolderError
from trainprof.profiler.model.tuning import TUNE_SCHEMA, TuneResult
from trainprof.profiler.store.layout import TUNE_FILE


def read_tune(folder: Path) -> TuneResult | None:
    """The result of the tune in `folder`; None where it holds none, or none yet.

    Raises:
        RunFolderError: it cannot be read, or is of a newer format.
    """
    path = folder / TUNE_FILE
    try:
        result = msgspec.json.decode(path.read_bytes(), type=TuneResult)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise RunFolderError(
            f"{path} cannot be read ({error.strerror}); check its rights."
        ) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        sentence = f"{path} is damaged; run the tune again to have its result."
        raise RunFolderError(sentence) from None
    if result.schema > TUNE_SCHEMA:
        raise RunFolderError(f"{path} is of a newer trainprof; read it with that version.")
    return result
