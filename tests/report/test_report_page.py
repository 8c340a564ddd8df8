"""report.html in a headless Chromium: it opens, shows the right numbers, zooms, filters, and is fast."""

import json
import time

import pytest
from recordings import sample, served, step, write_run
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.common.by import By

from browser import CHROMIUM, DRIVER, chromium
from quire.report.page import embed, write_page
from quire.report.study import load_study

browser = pytest.mark.skipif(
    CHROMIUM is None or DRIVER is None, reason="needs Debian's packages chromium and chromium-driver"
)


class Page:
    """An open report."""

    def __init__(self, driver, path) -> None:
        self.driver = driver
        driver.get(path.as_uri())
        self.until(lambda: self.drawn is not None)

    def until(self, holds) -> None:
        end = time.monotonic() + 20
        while not holds():
            assert time.monotonic() < end, "not in time"
            time.sleep(0.02)

    def find(self, selector):
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def rows(self, selector) -> list[list[str]]:
        """The cells of a table's body."""
        script = (
            "return [...document.querySelectorAll(arguments[0] + ' tbody tr')]"
            ".map((row) => [...row.cells].map((cell) => cell.textContent))"
        )
        return self.driver.execute_script(script, selector)

    @property
    def drawn(self) -> dict | None:
        """What the timeline shows now."""
        text = self.driver.execute_script("return document.getElementById('tl-canvas').dataset.drawn")
        return text and json.loads(text)

    def pixel(self, x, y) -> list[int]:
        """Red, green and blue of the timeline at a point, in pixels of the page."""
        return self.driver.execute_script(
            "const c = document.getElementById('tl-canvas').getContext('2d'), r = devicePixelRatio || 1;"
            "return [...c.getImageData(arguments[0] * r, arguments[1] * r, 1, 1).data].slice(0, 3)",
            x,
            y,
        )

    def hover(self, selector, x, y) -> str:
        """The tooltip at a point of an element, from its upper left corner."""
        found = self.find(selector)
        self.driver.execute_script("arguments[0].scrollIntoView({block: 'center'})", found)
        size = found.size
        ActionChains(self.driver).move_to_element_with_offset(
            found, int(x - size["width"] / 2), int(y - size["height"] / 2)
        ).perform()
        tip = self.find("#tip")
        return tip.get_property("textContent") if tip.get_property("hidden") is False else ""

    def errors(self) -> list[str]:
        return [each["message"] for each in self.driver.get_log("browser") if each["level"] == "SEVERE"]


@pytest.fixture(scope="module")
def driver():
    with chromium() as found:
        yield found


@pytest.fixture
def report(tmp_path, driver):
    """Write a report of the runs in tmp_path / "runs" and open it."""

    def report(**options) -> Page:
        write_page(load_study(tmp_path / "runs", **options), tmp_path / "report.html")
        return Page(driver, tmp_path / "report.html")

    return report


def test_the_file_asks_nothing_of_the_network(tmp_path):
    write_run(tmp_path / "runs", served(1))
    write_page(load_study(tmp_path / "runs"), tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "{{" not in text
    for word in ("src=", "@import", "fetch(", "XMLHttpRequest", "https://", '<link rel="stylesheet'):
        assert word not in text


def test_data_cannot_end_its_script_and_holds_no_number_that_json_lacks():
    text = embed({"id": "</script><script>alert(1)</script>", "value": float("nan")})
    assert "<" not in text
    assert json.loads(text) == {"id": "</script><script>alert(1)</script>", "value": None}


@browser
@pytest.mark.browser
def test_a_comparison_shows_verdict_and_numbers(tmp_path, report):
    for seed in range(3):
        write_run(tmp_path / "runs" / f"a{seed}", served(seed), seed=seed, scheduler="fcfs")
        write_run(tmp_path / "runs" / f"b{seed}", served(seed, slower=0.88), seed=seed, scheduler="mine")
    page = report()
    study = load_study(tmp_path / "runs")
    (found,) = study.comparisons
    assert page.find("#verdicts .sentence").text == found.sentence
    table = {row[0]: row for row in page.rows("#verdicts table")}
    assert table["mean E2E"][3] == "−12.0%"
    e2e = next(row for row in found.rows if (row.metric, row.at) == ("e2e_s", "mean"))
    assert table["mean E2E"][1] == f"{float(f'{1e3 * e2e.baseline:.3g}'):g} ms"
    assert table["mean E2E"][5] == "100%"
    runs = page.rows("#runs table")
    assert [row[:3] for row in runs[:2]] == [["a0", "fcfs", "0"], ["a1", "fcfs", "1"]]
    assert runs[0][3] == "40"
    assert "mean E2E" in page.find("#pareto figure:nth-of-type(2) figcaption").text
    assert page.errors() == []


@browser
@pytest.mark.browser
def test_the_timeline_zooms_pans_filters_and_tells_what_is_under_the_pointer(tmp_path, report):
    """Request r1 is queued for 2 s, computes for 2 s, speaks until 8, waits preempted until 9, ends at 10."""
    record = sample(
        1,
        arrival=0.0,
        tenant="b",
        first_scheduled=2.0,
        token_times=[4.0, 6.0, 10.0],
        preempted=[8.0],
        resumed=[9.0],
        num_preemptions=1,
        finish=10.0,
    )
    others = [sample(i, arrival=0.9 * i, ttft=0.2, gaps=(0.1,)) for i in range(2, 11)]
    steps = [step(i, float(i), float(i + 1), kv_used=8 if i == 5 else 4) for i in range(10)]
    write_run(tmp_path / "runs", [record, *others], steps)
    page = report(warmup=0.0)
    canvas = page.find("#tl-canvas")
    assert page.drawn == {"from": 0, "to": 10, "rows": 10}
    left, right = 64, canvas.size["width"] - 12

    def x(time):
        return left + (right - left) * time / 10

    grey, orange, blue, red = [195, 199, 207], [230, 159, 0], [0, 114, 178], [212, 0, 85]
    for time_s, colour in ((1, grey), (3, orange), (7, blue), (8.5, red), (9.5, orange)):
        assert page.pixel(x(time_s), 8) == colour, time_s
    tip = page.hover("#tl-canvas", x(8.5), 8)
    assert "r1  (b)" in tip
    assert "preempted for 1 s" in tip
    assert "TTFT 4 s, E2E 10 s, worst ITL 4 s" in tip
    assert "1 preemptions" in tip
    assert "KV 100.0% used" in page.hover("#tl-canvas", x(5.5), canvas.size["height"] - 60)
    assert "step 3" in page.hover("#tl-canvas", x(3.5), canvas.size["height"] - 60)

    page.find("#tl-in").click()
    page.until(lambda: page.drawn["to"] == 7.5)
    assert page.drawn["from"] == 2.5
    page.driver.execute_script("arguments[0].focus()", canvas)
    canvas.send_keys("+")
    page.until(lambda: page.drawn == {"from": 3.75, "to": 6.25, "rows": 4})
    ActionChains(page.driver).scroll_from_origin(ScrollOrigin.from_element(canvas), 0, 600).perform()
    page.until(lambda: page.drawn["to"] - page.drawn["from"] > 5)
    page.find("#tl-all").click()
    page.until(lambda: page.drawn["rows"] == 10)

    page.find("#tl-find").send_keys("R10")
    page.until(lambda: page.drawn["rows"] == 1)
    assert page.find("#tl-count").text == "1 of 10 requests"
    page.find("#tl-find").clear()
    page.driver.execute_script("document.getElementById('tl-find').dispatchEvent(new Event('input'))")
    page.find("#tl-preempted").click()
    page.until(lambda: page.drawn["rows"] == 1)
    page.find("#tl-preempted").click()
    page.find("#tl-tenant option[value=default]").click()
    page.until(lambda: page.drawn["rows"] == 9)
    assert page.errors() == []


@browser
@pytest.mark.browser
def test_strange_names_are_shown_as_they_are_and_cut_runs_marked(tmp_path, report):
    name = "<img src=x onerror=document.title='owned'>"
    requests = [sample(i, arrival=float(i), request_id=f"{name}{i}", tenant=name) for i in range(3)]
    write_run(tmp_path / "runs", requests, finished=False, scheduler="</script>")
    page = report()
    assert page.driver.title == "runs · quire report"
    assert page.rows("#runs table")[0][:2] == ["runscut", "</script>"]
    assert name in page.find("#tl-tenant").get_property("textContent")
    assert page.driver.find_elements(By.CSS_SELECTOR, "img") == []
    assert page.errors() == []


@browser
@pytest.mark.browser
def test_ten_thousand_requests_open_within_three_seconds_and_zoom_at_once(tmp_path, report):
    requests = [
        sample(
            i,
            arrival=0.1 * i,
            ttft=0.4,
            gaps=(0.05,) * 20,
            preempted=[0.1 * i + 0.5],
            resumed=[0.1 * i + 0.6],
        )
        for i in range(10_000)
    ]
    steps = [step(i, 0.03 * i, 0.03 * (i + 1)) for i in range(35_000)]
    write_run(tmp_path / "runs", requests, steps)
    page = report()
    timing = page.driver.execute_script("return performance.getEntriesByType('navigation')[0].duration")
    assert timing < 3000
    assert page.drawn["rows"] == 10_000
    began = time.monotonic()
    page.find("#tl-in").click()
    page.until(lambda: page.drawn["rows"] < 6000)
    assert time.monotonic() - began < 1.5
