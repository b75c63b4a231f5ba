"""A hub that cannot be reached is one message that names the model, not a traceback of its client."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("call", ["digests.hub_commit", "folders.model_folder"])
def test_no_connection_is_told_with_the_model_s_name(call: str, tmp_path: Path) -> None:
    module, function = call.split(".")
    script = (
        f"from vlfilter.errors import VlfilterError\nfrom vlfilter.models.{module} import {function}\n"
        f"try:\n    {function}('someone/some-model')\nexcept VlfilterError as error:\n    print(error)"
    )
    # nobody listens on the discard port
    env = {**os.environ, "HF_ENDPOINT": "http://127.0.0.1:9", "HF_HOME": str(tmp_path), "HF_HUB_OFFLINE": "0"}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "someone/some-model" in done.stdout
    assert "ConnectError" in done.stdout
