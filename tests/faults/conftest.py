"""What the campaigns share."""

import shutil
from pathlib import Path

import pytest


@pytest.fixture
def copied_few(few_run, tmp_path, without_figures):
    """The folder of `few_run`, copied: for a test to change; figures stay blank."""
    with without_figures():
        yield Path(shutil.copytree(few_run, tmp_path / "run"))
