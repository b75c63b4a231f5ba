"""Prefect's UI in a headless Chromium, by what people see: labels, buttons, tabs."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

IMAGES = Path(__file__).parent.parent.parent / "docs" / "images"
SIZE = (1440, 900)
PATIENCE_MS = 180_000  # for a page on a busy machine
DEBOUNCE_MS = 1200  # the form takes over what was typed a moment later; what is submitted before is the old value
BUSY = 503
PRESSES = 20  # of Submit, while SQLite is busy: Prefect's own clients try again after a 503, its UI leaves it to people


def chromium() -> str | None:
    """The system's, as infra/test-browser.sh installs it."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return next((path for name in names if (path := shutil.which(name))), None)


@contextmanager
def open_ui(url: str) -> Iterator[Ui]:
    """`url` is the server's, without /api."""
    from playwright.sync_api import sync_playwright

    flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium(), args=flags)
        page = browser.new_page(viewport={"width": SIZE[0], "height": SIZE[1]}, timezone_id="UTC")
        page.set_default_timeout(PATIENCE_MS)
        elsewhere = re.compile(rf"^(?!{re.escape(url)}|data:|blob:)")
        page.route(elsewhere, lambda route: route.abort())  # nothing leaves this machine
        yield Ui(page, url)
        browser.close()


class Ui:
    def __init__(self, page: Page, url: str):
        self.page, self._url = page, url

    def go(self, path: str) -> None:
        self.page.goto(f"{self._url}/v2/{path}")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    def tab(self, name: str) -> None:
        self.page.get_by_role("tab", name=name, exact=True).click()

    def see(self, text: str) -> None:
        """Wait until the page shows it."""
        self.page.get_by_text(text, exact=True).first.wait_for()

    def field(self, title: str, kind: str = "textarea") -> Locator:
        """The first element of this kind behind a field's title."""
        label = self.page.locator("label").filter(has_text=re.compile(f"^{title}( |$)")).first
        return label.locator(f"xpath=following::{kind}[1]")

    def fill(self, title: str, text: str) -> None:
        self.field(title).fill(text)

    def add_item(self, title: str, text: str) -> None:
        """To a list of texts that is empty."""
        self.field(title, "button[contains(., 'Add')]").click()
        self.fill(title, text)

    def fill_json(self, title: str, text: str) -> None:
        self.field(title, "div[contains(@class, 'cm-content')]").click()
        self.page.keyboard.insert_text(text)

    def submit(self) -> str:
        """Press until the server takes the form, and return the id of the run that it made."""
        for _ in range(PRESSES):
            self.page.wait_for_timeout(DEBOUNCE_MS)
            with self.page.expect_response(re.compile("/create_flow_run$")) as told:
                self.button("Submit").click()
            answer = told.value
            if answer.status != BUSY:
                assert answer.ok, answer.text()
                return str(answer.json()["id"])
        raise AssertionError(f"the server was busy {PRESSES} times")

    def open_artifact(self, key: str) -> None:
        """From a run's page: the card leads to all of this key, and that to the newest one."""
        self.page.get_by_text(key, exact=True).first.click()
        self.page.wait_for_url(re.compile("/artifacts/key/"))
        self.page.locator("a[href*='/artifacts/artifact/']").first.click()
        self.page.wait_for_url(re.compile("/artifacts/artifact/"))

    def menu(self, entry: str) -> None:
        """An entry of the page's own menu, the last one on it."""
        self.page.locator("button[aria-haspopup=menu]").last.click()
        self.page.get_by_role("menuitem", name=entry, exact=True).click()

    def picture(self, name: str, height: int = SIZE[1]) -> None:
        """For the README, where VLFILTER_SCREENSHOTS=1 asks for it; the page's upper part."""
        if os.environ.get("VLFILTER_SCREENSHOTS") != "1":
            return
        IMAGES.mkdir(exist_ok=True)
        self.page.wait_for_load_state("networkidle")
        self.page.wait_for_timeout(5000)  # charts come last, and move into their place
        clip = {"x": 0, "y": 0, "width": SIZE[0], "height": height}
        self.page.screenshot(path=IMAGES / f"{name}.png", clip=clip)  # type: ignore[arg-type]
