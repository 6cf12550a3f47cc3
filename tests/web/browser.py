"""A headless Chromium that uses the web client as a person does: by what is on the page."""
import json
import shutil
import tempfile
import time

from selenium import webdriver
from selenium.common.exceptions import StaleElementReferenceException, NoSuchElementException
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.by import By
from selenium.webdriver.common.keys import Keys

FLAGS = ["--headless=new", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync", "--disable-dev-shm-usage", "--no-proxy-server", "--lang=en-GB"]


class Browser:
    def __init__(self, dark=False, seconds=20):
        self.seconds = seconds
        self.profile = tempfile.mkdtemp(prefix="barid-browser-")
        options = Options()
        options.binary_location = shutil.which("chromium")
        options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
        for flag in FLAGS + [f"--user-data-dir={self.profile}"]:
            options.add_argument(flag)
        self.driver = webdriver.Chrome(service=Service(shutil.which("chromedriver")), options=options)
        self.driver.set_page_load_timeout(seconds)
        self.size(1200, 800)
        if dark:
            self.driver.execute_cdp_cmd("Emulation.setEmulatedMedia",
                                        {"features": [{"name": "prefers-color-scheme", "value": "dark"}]})

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.driver.quit()
        shutil.rmtree(self.profile, ignore_errors=True)

    def size(self, width, height):
        """Of the page, however small: a window could not be as narrow as a phone."""
        self.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                    {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600})

    def open(self, url):
        self.driver.get(url)

    def shot(self, path):
        self.driver.save_screenshot(path)
        return path

    def complaints(self):
        """What the console said that it should not have: script errors and refused content."""
        return [e["message"] for e in self.driver.get_log("browser")
                if e["level"] == "SEVERE" and ("Uncaught" in e["message"] or "Content Security Policy" in e["message"])]

    # ---- finding and waiting ----

    def wait(self, check, what="the page"):
        end = time.monotonic() + self.seconds
        while True:
            try:
                found = check()
                if found:
                    return found
            except (StaleElementReferenceException, NoSuchElementException):
                pass
            if time.monotonic() > end:
                raise AssertionError(f"{what} did not come; the page says: {self.one('body').text[:1500]}")
            time.sleep(0.05)

    def one(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def all(self, selector):
        return [e for e in self.driver.find_elements(By.CSS_SELECTOR, selector) if e.is_displayed()]

    def click(self, selector):
        self.wait(lambda: [e.click() or True for e in self.all(selector)[:1]], selector)

    def type(self, selector, text):
        self.wait(lambda: self.all(selector), selector)[0].send_keys(text)

    def message(self, text):
        """The message whose text contains this."""
        found = [m for m in self.all("article.message") if text in m.text]
        return found[-1] if found else None

    def wait_text(self, text):
        return self.wait(lambda: self.message(text), f"the message “{text}”")

    def state(self, text):
        m = self.message(text)
        return m and m.get_attribute("data-state")

    def wait_state(self, text, state):
        self.wait(lambda: self.state(text) == state, f"“{text}” being {state} (it is {self.state(text)})")

    def texts(self):
        """The texts of the open conversation, in order."""
        return self.driver.execute_script("return [...document.querySelectorAll('article.message .text')].map(e => e.textContent)")

    def status(self):
        return self.one("#link-status").get_attribute("data-state")

    # ---- doing ----

    def register(self, url, user_id, password, display_name=""):
        self.open(url)
        self.click("#signin-other")
        self.type("input[name=user_id]", user_id)
        self.type("input[name=display_name]", display_name)
        self.type("input[name=password]", password + Keys.ENTER)
        self.wait(lambda: self.status() == "online", "the link")

    def begin(self, members, title=""):
        self.click("#new-conversation")
        self.type("#new-form input[name=members]", ", ".join(members))
        self.type("#new-form input[name=title]", title + Keys.ENTER)
        self.wait(lambda: self.all("#composer") and not self.all("#new-dialog"), "the new conversation")

    def open_conversation(self, name):
        self.wait(lambda: [r for r in self.all(".row") if r.find_element(By.CSS_SELECTOR, ".row-name").text == name
                           and (r.click() or True)], name)
        self.wait(lambda: self.all("#composer"), "the composer")

    def write(self, text):
        # JavaScript for characters outside the basic plane, which the driver cannot type.
        self.driver.execute_script("const t = document.getElementById('text'); t.value = arguments[0];"
                                   "t.dispatchEvent(new Event('input'))", text)
        self.type("#text", Keys.ENTER)

    def attach(self, path):
        self.one("#file").send_keys(path)

    def track(self, text):
        self.wait_text(text).find_element(By.CSS_SELECTOR, "button.meta").click()
        return self.wait(lambda: self.all("#track .timeline li"), "the timeline")

    def points(self):
        return [e.get_attribute("data-point") for e in self.all("#track .timeline li.passed")]

    def close_track(self):
        self.click("#track-close")

    def log(self):
        return json.dumps(self.driver.get_log("browser"), indent=1)
