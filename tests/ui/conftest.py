"""What the page showed, beside the failure of a test that looks at it."""

from __future__ import annotations

from collections.abc import Generator

import pytest


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Function) -> Generator[None, None, None]:
    """A fixture is not told how its test ends."""
    try:
        return (yield)
    except Exception as error:
        if ui := item.funcargs.get("ui"):
            error.add_note(f"The page, {ui.page.url}, showed:\n{ui.page.inner_text('body')}")
        raise
