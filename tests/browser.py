"""The chat page in a real browser, as somebody who uses it sees it."""

from __future__ import annotations

import gc
import os
import shutil
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from selenium.webdriver import Chrome, ChromeOptions
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys
from selenium.webdriver.remote.webelement import WebElement

CHROMIUM = shutil.which("chromium")
DRIVER = shutil.which("chromedriver")


@contextmanager
def chromium(*, width: int = 1100, height: int = 800) -> Iterator[Chrome]:
    """A headless Chromium with a profile of its own."""
    assert CHROMIUM is not None
    options = ChromeOptions()
    options.binary_location = CHROMIUM
    for argument in ("--headless=new", f"--window-size={width},{height}", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    if os.geteuid() == 0:
        options.add_argument("--no-sandbox")  # Chromium's sandbox does not start for root
    driver = Chrome(options=options, service=Service(executable_path=DRIVER))
    try:
        yield driver
    finally:
        quit_quietly(driver)


def quit_quietly(driver: Chrome) -> None:
    """Selenium leaves the answer of the driver's shutdown open; collected here, it warns nobody later."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        driver.quit()
        gc.collect()


class ChatPage:
    """What is on the page, and what can be done with it."""

    def __init__(self, driver: Chrome, url: str) -> None:
        self.driver = driver
        driver.get(url)

    def find(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def text(self, selector: str) -> str:
        """Text as it is in the document, white space and all."""
        return self.find(selector).get_property("textContent")

    def texts(self, role: str) -> list[str]:
        """What was said by "user" or "assistant"."""
        return [each.get_property("textContent") for each in self.all(f".turn.{role} .text")]

    def until(self, holds: Callable[[], object], seconds: float = 30.0) -> None:
        end = time.monotonic() + seconds
        while not holds():
            assert time.monotonic() < end, f"not within {seconds} s; the page says: {self.text('body')}"
            time.sleep(0.02)

    def until_connected(self) -> None:
        self.until(lambda: self.find("#status").get_attribute("data-state") == "ready")

    def set(self, **options: object) -> None:
        """Fill in settings, by the names that the API has for them."""
        for name, value in options.items():
            field = self.find(f"#settings [name={name}]")
            field.clear()
            field.send_keys(str(value))

    def say(self, text: str) -> None:
        self.find("#message").send_keys(text, Keys.ENTER)

    def until_answered(self, turns: int) -> None:
        """Until so many answers are there, whole."""
        self.until(lambda: len(self.all('.turn.assistant[aria-busy="false"]')) == turns)

    def is_writing(self) -> bool:
        return bool(self.all('.turn.assistant[aria-busy="true"]'))
