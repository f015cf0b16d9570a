"""The page of games in a browser: choose, play, seek; with the keyboard, in both themes, from a desk and a phone."""

import time
from dataclasses import replace

import numpy as np
import pytest
from report_study import make_replay

from playscale.report.watch_page import EncodedReplay, PageEntry, write_watch_page
from playscale.rollout.decisions import Decisions

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FRAMES = 600
ACTIONS = ("CompassDirection.N", "CompassDirection.E", "Command.SEARCH", "MiscDirection.WAIT", "Command.EAT")
ENTRIES = (
    PageEntry("bc-lstm-10k-s0-8e+09", "best: 120", "best"),
    PageEntry("bc-lstm-10k-s0-8e+09", "median and worst: 3", "median"),
    PageEntry("random", "best: 1", "best"),
)


def game(number):
    """The first has decisions: at step t, action t mod 5 is taken and the most likely; the value is t / 100."""
    replay = replace(make_replay(FRAMES, number), title=f"game {number}", depth=np.full(FRAMES, 1 + number, np.uint8))
    if number:
        return replay
    step = np.arange(FRAMES)
    likely = ((step + np.arange(5)[:, None]) % 5).astype(np.uint16)
    share = np.repeat(np.array([[0.6], [0.2], [0.15], [0.04], [0.0001]], np.float32), FRAMES, 1)
    decisions = Decisions(likely, share, share[0], (step / 100).astype(np.float32))
    return replace(replay, actions=ACTIONS, action=step % 5, decisions=decisions)


@pytest.fixture(scope="module")
def games(tmp_path_factory):
    path = tmp_path_factory.mktemp("watch") / "games.html"
    encoded = [EncodedReplay.of(game(number)) for number in range(len(ENTRIES))]
    write_watch_page(path, ENTRIES, encoded, title="Games to watch", subtitle="a study", note="Left out: 2 games.")
    return path


@pytest.fixture(params=["light", "dark"])
def page(request, browser, games):
    """The open page. When the test is over: nothing on the console, nothing asked of the network."""
    opened = browser.new_page(viewport={"width": 1280, "height": 1000}, color_scheme=request.param)
    complaints = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda asked: None if asked.url == games.as_uri() else complaints.append(asked.url))
    opened.goto(games.as_uri())
    wait_until(lambda: title(opened) == "game 0")
    yield opened
    opened.close()
    assert complaints == []


def wait_until(true):
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "waited 60 s"
        time.sleep(0.02)


def title(page):
    return page.locator(".replay .title").text_content()


def frame(page):
    return page.evaluate("document.querySelector('.replay').player.frame")


def test_a_game_is_chosen_and_shows_what_is_known_of_it(page):
    assert page.get_by_role("radio").count() == 2
    rows = page.locator(".likely tbody tr")
    assert rows.count() == 5
    page.locator(".seek").fill("7")
    assert page.locator(".decision .action").text_content() == "takes Command.SEARCH (60.0%)"
    assert rows.nth(0).text_content() == "Command.SEARCH (taken)60.0%"
    assert rows.nth(4).text_content() == "CompassDirection.E< 0.1%"
    assert page.locator(".decision .value").text_content() == "value 0.0700"
    assert [one.split()[0] for one in page.locator(".curve .name").all_text_contents()] == ["score", "depth", "value"]
    page.get_by_label("median and worst: 3").check()
    wait_until(lambda: title(page) == "game 1")
    assert page.locator(".decision").is_hidden()
    assert "1 / 600 · score 0 · depth 2" in page.locator(".counter").text_content()
    page.get_by_label("agent").first.select_option(label="random")
    wait_until(lambda: title(page) == "game 2")
    assert page.url.endswith("#game-2")
    page.evaluate("location.hash = 'game-0'")
    wait_until(lambda: title(page) == "game 0")
    assert page.get_by_label("best: 120").is_checked()


def test_the_game_plays_and_is_sought_by_keyboard_and_curve(page):
    page.get_by_label("best: 120").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Space")  # on the play button
    wait_until(lambda: frame(page) > 3)
    page.keyboard.press("Space")
    page.keyboard.press("Home")
    page.keyboard.press("Shift+ArrowRight")
    assert frame(page) == 100
    assert page.evaluate("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    box = page.locator(".curve svg").first.bounding_box()
    page.mouse.click(box["x"] + box["width"] / 2, box["y"] + 5)
    assert abs(frame(page) - FRAMES / 2) <= 1
    assert page.evaluate("document.activeElement.className") == "seek"
    page.keyboard.press("Home")
    said = "Step 1 / 600 · score 0 · depth 1; takes CompassDirection.N, 60.0%; value 0.00"
    wait_until(lambda: page.locator(".spoken").text_content() == said)
    page.locator(".terminal").click()
    wait_until(lambda: frame(page) > 3)
    page.keyboard.press("End")
    assert frame(page) == FRAMES - 1


@pytest.mark.parametrize("width", [360, 700, 1280, 2000])
def test_nothing_overlaps_and_the_page_is_no_wider_than_the_window(page, width):
    page.set_viewport_size({"width": width, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    names = (".choice", ".stage", ".decision", ".controls", ".curves", ".caption")
    boxes = [page.locator(name).first.bounding_box() for name in names]
    for i, one in enumerate(boxes):
        for other in boxes[i + 1 :]:
            wide = min(one["x"] + one["width"], other["x"] + other["width"]) - max(one["x"], other["x"])
            high = min(one["y"] + one["height"], other["y"] + other["height"]) - max(one["y"], other["y"])
            assert wide <= 0.5 or high <= 0.5
