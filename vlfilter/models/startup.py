"""What loading a model need not pay for."""

from __future__ import annotations

import importlib
import sys
from functools import cache


@cache
def import_transformers() -> None:
    """Import transformers without scikit-learn (and scipy and pandas with it), where that is installed.

    transformers imports it for one variant of speculative decoding; nobody scores with that, and it is a fifth of the
    CPU time until a model is loaded. Only what transformers believes to be installed changes: others import it as ever.
    """
    found = importlib.import_module("transformers.utils.import_utils")
    if "sklearn" in sys.modules:
        return  # paid for already
    sys.modules["sklearn"] = None  # type: ignore[assignment]  # for importlib: not to be found
    try:
        found.is_sklearn_available()  # transformers remembers the answer
    finally:
        del sys.modules["sklearn"]
