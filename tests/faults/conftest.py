"""What the campaigns share."""

import contextlib
import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copied_few(few_run, tmp_path, without_figures):
    """The folder of `few_run`, copied: for a test to change; figures stay blank."""
    with without_figures():
        yield Path(shutil.copytree(few_run, tmp_path / "run"))


class Killed(BaseException):
    """Stands for SIGKILL: nothing in jaxtl may catch it."""


@pytest.fixture
def killed_at():
    """A context that ends, as by a kill, where so many files were written and another takes its name.

    It gives a list that is empty where it was ended so.
    """

    @contextlib.contextmanager
    def context(writes):
        real, made, done = Path.replace, [], []

        def replace(self, target):
            if len(made) == writes:
                raise Killed(str(target))
            made.append(target)
            return real(self, target)

        with pytest.MonkeyPatch.context() as patch, contextlib.suppress(Killed):
            patch.setattr(Path, "replace", replace)
            yield done
            done.append(True)

    return context
