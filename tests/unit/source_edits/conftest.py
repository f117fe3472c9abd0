import pytest

from trainprof.profiler.model.plan import Application, Target
from trainprof.rules.source_edits.patch import make_patch


@pytest.fixture
def patched(tmp_path):
    """Gives the patch of one fix for a script: patched(text, "loader-workers", line=3, ...)."""

    def make(text, fix, line=None, command=(), ordinal=None, **params):
        path = tmp_path / "train.py"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        target = Target(str(path), line, ordinal=ordinal) if line is not None else None
        return make_patch([Application(fix, params, target)], script=str(path), command=command)

    return make


@pytest.fixture
def edited(patched):
    """The text of the script after a fix; it must have been possible."""

    def edit(text, fix, line=None, command=(), ordinal=None, **params):
        patch = patched(text, fix, line, command, ordinal, **params)
        assert patch.by_hand == ()
        if not patch.files:
            assert patch.present == (fix,)
            return text
        (file,) = patch.files
        assert patch.made == (fix,)
        return file.new if isinstance(text, bytes) else file.new.decode()

    return edit


@pytest.fixture
def by_hand(patched):
    """The note about a fix that must not have been possible."""

    def note(text, fix, line=None, command=(), ordinal=None, **params):
        patch = patched(text, fix, line, command, ordinal, **params)
        assert patch.files == ()
        (found,) = patch.by_hand
        return found

    return note
