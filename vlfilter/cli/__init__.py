"""The command line. Every command imports what it needs when it runs, so that `vlfilter --help` is quick."""

from __future__ import annotations

import sys

from vlfilter.cli.app import app
from vlfilter.errors import VlfilterError
from vlfilter.scoring.heap import share_arenas


def main() -> None:
    """Run a command; a user's mistake is one message and exit code 2, without a traceback."""
    share_arenas()  # before Prefect's threads have theirs
    try:
        app()
    except VlfilterError as error:
        print(f"vlfilter: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
    except Exception as error:
        # Storage that does not answer: each of its libraries has errors of its own.
        if not isinstance(error, OSError) and not type(error).__module__.startswith(("botocore", "aiobotocore")):
            raise
        print(f"vlfilter: {type(error).__name__}: {error}", file=sys.stderr)  # noqa: T201
        sys.exit(2)
