"""A model loads without the parts of transformers that scoring never uses."""

from __future__ import annotations

import subprocess
import sys

import pytest

pytest.importorskip("sklearn")

PROGRAM = """
import sys
from vlfilter.models.startup import import_transformers
import_transformers()
import vlfilter.models.vlm
assert "sklearn" not in sys.modules, "transformers imported scikit-learn"
import sklearn
from importlib.util import find_spec
assert find_spec("sklearn.metrics") is not None
"""


def test_scikit_learn_is_not_imported_and_stays_importable() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
