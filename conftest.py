"""For tests and for the examples in docstrings."""

import tempfile

import pytest


@pytest.fixture(autouse=True, scope="session")
def _temporary_files_go(tmp_path_factory):
    """What they make by `tempfile` lies where pytest cleans up."""
    tempfile.tempdir = str(tmp_path_factory.mktemp("tempfile"))
