"""The chat page, in a headless Chromium, against a live server on the demo model."""

import re
from itertools import pairwise

import httpx
import pytest
from live_server import LiveServer
from selenium.webdriver.common.keys import Keys

from browser import CHROMIUM, DRIVER, ChatPage, chromium

pytestmark = [
    pytest.mark.browser,
    pytest.mark.skipif(
        CHROMIUM is None or DRIVER is None,
        reason="needs Debian's packages chromium and chromium-driver",
    ),
]

QUESTION = "Tom and Mia went to the"


@pytest.fixture(scope="module")
def driver():
    with chromium() as found:
        yield found


@pytest.fixture
def page(driver, server):
    chat = ChatPage(driver, server.url)
    chat.until_connected()
    return chat


def asked(http, messages, **fields) -> dict:
    answer = http.post("/v1/chat/completions", json={"messages": messages, "temperature": 0.0, **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def user(text) -> dict:
    return {"role": "user", "content": text}


def test_the_page_needs_no_network_and_no_key(http):
    answer = http.get("/")
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert "connect-src 'self'" in answer.text
    assert not re.search(r"""(?:src|href)=["'](?!data:)""", answer.text)


def test_an_answer_is_streamed_and_is_the_models_own(page, http):
    expected = asked(http, [user(QUESTION)], max_tokens=60)
    page.set(temperature=0, max_tokens=60)
    page.say(QUESTION)
    seen = []

    def whole() -> bool:
        seen.append(page.texts("assistant")[0])
        return not page.is_writing()

    page.until(whole)
    assert page.texts("user") == [QUESTION]
    assert page.texts("assistant") == [expected["choices"][0]["message"]["content"]]
    assert all(later.startswith(earlier) for earlier, later in pairwise(seen))
    note = page.text(".turn.assistant .note")
    assert re.match(r"(\d+) tokens · \d+\.\d tokens/s · first token after \d+ ms", note)
    assert int(note.split()[0]) == expected["usage"]["completion_tokens"]
    cut = expected["choices"][0]["finish_reason"] == "length"
    assert note.endswith("token limit reached") == cut


def test_a_conversation_has_several_turns_and_can_be_cleared(page, http):
    fields = {"max_tokens": 12}
    first = asked(http, [user("Hello")], **fields)["choices"][0]["message"]["content"]
    history = [user("Hello"), {"role": "assistant", "content": first}]
    second = asked(http, [*history, user("Two\nlines")], **fields)["choices"][0]["message"]["content"]
    page.set(temperature=0, **fields)
    page.say("Hello")
    page.until_answered(1)
    page.find("#message").send_keys("Two", Keys.SHIFT, Keys.ENTER, Keys.NULL, "lines")
    assert page.texts("user") == ["Hello"], "Shift+Enter does not send"
    page.find("#message").send_keys(Keys.ENTER)
    page.until_answered(2)
    assert page.texts("user") == ["Hello", "Two\nlines"]
    assert page.texts("assistant") == [first, second]

    page.find("#clear").click()
    assert not page.all(".turn")
    page.say("Hello")
    page.until_answered(1)
    assert page.texts("assistant") == [first], "what was cleared is not sent"


def test_the_settings_reach_the_model(page, http, server):
    system = {"role": "system", "content": "You are terse."}
    sampling = {"temperature": 0.9, "top_p": 0.8, "top_k": 20, "seed": 7, "max_tokens": 24}
    expected = asked(http, [system, user(QUESTION)], **sampling)["choices"][0]["message"]["content"]
    assert expected != asked(http, [user(QUESTION)], max_tokens=24)["choices"][0]["message"]["content"]
    page.find("#system").send_keys(system["content"])
    page.set(**sampling)
    assert [each.text for each in page.all("#model option")] == ["demo", "other-name"]
    page.find("#model option:last-child").click()
    page.say(QUESTION)
    page.until_answered(1)
    assert page.texts("assistant") == [expected]
    page.until(lambda: server.log_lines()[-1].get("stream"))
    assert server.log_lines()[-1]["model"] == "other-name"


def test_a_setting_that_cannot_be_is_not_sent(page):
    page.set(top_p=2)
    page.say(QUESTION)
    assert not page.all(".turn")
    assert page.find("#message").get_property("value") == QUESTION


@pytest.mark.parametrize("way", ["button", "escape"])
def test_stop_ends_the_answer_and_frees_the_engine(page, server, way):
    page.driver.execute_script(LET_IT_WRITE_ON)
    page.say(QUESTION)
    page.until(lambda: page.is_writing() and page.texts("assistant")[0])
    assert not page.find("#send").is_displayed()
    if way == "button":
        page.find("#stop").click()
    else:
        page.find("#message").send_keys(Keys.ESCAPE)
    page.until_answered(1)
    assert page.text(".turn.assistant .note").endswith("stopped")
    assert page.find("#send").is_displayed()
    page.until(lambda: server.stats().running == 0, seconds=2.0)


LET_IT_WRITE_ON = """
    const plain = window.fetch;
    window.fetch = (path, options) => plain(path, options?.body
        ? {...options, body: JSON.stringify({...JSON.parse(options.body), ignore_eos: true})} : options);
"""


def test_an_answer_can_be_copied(page):
    page.driver.execute_cdp_cmd(
        "Browser.grantPermissions", {"permissions": ["clipboardReadWrite", "clipboardSanitizedWrite"]}
    )
    page.set(temperature=0, max_tokens=8)
    page.say("Hello")
    page.until_answered(1)
    page.find(".turn.assistant button").click()
    page.until(lambda: page.find(".turn.assistant button").text == "Copied")
    held = page.driver.execute_async_script("navigator.clipboard.readText().then(arguments[0])")
    assert held == page.texts("assistant")[0]


def test_an_error_is_shown_and_can_be_tried_again(page, http, server):
    page.set(temperature=0, max_tokens=100_000)
    page.say("Hello")
    page.until(lambda: page.all(".problem"))
    limit = server.client.card.max_model_tokens
    assert f"more than the {limit} that this model takes" in page.text(".problem span")
    assert not page.texts("assistant")
    page.set(max_tokens=12)
    page.find(".problem button").click()
    page.until_answered(1)
    expected = asked(http, [user("Hello")], max_tokens=12)["choices"][0]["message"]["content"]
    assert page.texts("assistant") == [expected]
    assert not page.all(".problem")


def test_a_server_with_keys_is_asked_with_one(driver, tmp_path):
    with LiveServer(tmp_path, api_keys=("a-key",)) as live:
        page = ChatPage(driver, live.url)
        for given in ("wrong", "a-key"):
            page.until(lambda: page.find("#key").is_displayed())
            page.find("#key").send_keys(given)
            page.find("#use-key").click()
        page.until_connected()
        page.set(temperature=0, max_tokens=8)
        page.say("Hello")
        page.until_answered(1)
        bearer = {"authorization": "Bearer a-key"}
        with httpx.Client(base_url=live.url, headers=bearer, timeout=60) as http:
            expected = asked(http, [user("Hello")], max_tokens=8)["choices"][0]["message"]["content"]
        assert page.texts("assistant") == [expected]


def test_a_server_that_has_gone_is_an_error(driver, tmp_path):
    with LiveServer(tmp_path) as live:
        page = ChatPage(driver, live.url)
        page.until_connected()
    page.say("Hello")
    page.until(lambda: page.all(".problem"))
    assert page.text(".problem span").startswith("The server cannot be reached")


def test_everything_that_can_be_operated_has_a_name(page):
    for element in page.all("button, input, textarea, select, [role=log]"):
        if element.is_displayed():
            assert element.accessible_name, element.get_attribute("outerHTML")
