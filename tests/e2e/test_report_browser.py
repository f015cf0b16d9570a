"""The report as a reader sees it: opened in a real browser, in both themes, from a desk and from a phone."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from report_study import MANY_BUDGETS, REFERENCES, make_fit, make_points, make_replay, with_returns_of_zero

from playscale.points import write_points
from playscale.report.report import write_report
from playscale.report.reproduction import reproduce
from playscale.report.reproduction_page import write_reproductions

pytestmark = [pytest.mark.browser, pytest.mark.slow]

FRAMES = 600


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Path:
    points = make_points()
    path = tmp_path_factory.mktemp("report") / "report.html"
    replays = [make_replay(FRAMES), make_replay(7, seed=1)]
    details = {"spec": "a: 1\nb: 2\nc: 3\nd: 4", "version": "<script>alert(1)</script>"}
    write_report(
        path, make_fit(points), points, title="A study", replays=replays, references=REFERENCES, details=details
    )
    return path


@pytest.fixture(scope="module")
def reproduced(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A page of two studies, the second with returns of 0 or less and with fewer budgets."""
    folder = tmp_path_factory.mktemp("tables")
    write_points(make_points(budgets=MANY_BUDGETS), folder / "long.csv")
    write_points(with_returns_of_zero(make_points(seed=1), 4), folder / "short.csv")
    done = reproduce([folder / "long.csv", folder / "short.csv"], [], replicates=40)
    return write_reproductions(folder / "out", done)


@pytest.fixture(params=["light", "dark"])
def page(request: pytest.FixtureRequest, browser: Any, report: Path) -> Iterator[Any]:
    """The open report. When the test is over: nothing on the console, nothing asked of the network."""
    opened = browser.new_page(viewport={"width": 1280, "height": 900}, color_scheme=request.param)
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.on("request", lambda asked: None if asked.url == report.as_uri() else complaints.append(asked.url))
    opened.goto(report.as_uri())
    wait_until(lambda: opened.evaluate("document.querySelector('.replay').player !== undefined"))
    yield opened
    opened.close()
    assert complaints == []


def wait_until(true: Callable[[], bool]) -> None:
    """The page's content security policy forbids what playwright's own wait_for_function does."""
    end = time.monotonic() + 60
    while not true():
        assert time.monotonic() < end, "waited 60 s"
        time.sleep(0.02)


def frame(page: Any) -> int:
    return page.evaluate("document.querySelector('.replay').player.frame")


def test_replay_plays_stops_and_seeks(page: Any) -> None:
    replay = page.locator(".replay").first
    lines = replay.locator(".terminal div")
    assert lines.count() == 24
    assert lines.nth(0).text_content().rstrip() == "Turn 0."
    replay.locator(".speed").select_option("5")
    replay.get_by_role("button", name="Play").click()
    wait_until(lambda: frame(page) > 5)
    replay.get_by_role("button", name="Pause").click()
    stopped = frame(page)
    page.wait_for_timeout(150)
    assert frame(page) == stopped
    replay.locator(".seek").fill("30")
    assert lines.nth(0).text_content().rstrip() == "Turn 30."
    assert lines.nth(12).text_content() == " " * 31 + "@" + " " * 48
    assert lines.nth(12).locator(".cursor").text_content() == "@"
    assert "31 / 600 · score 300" in replay.locator(".counter").text_content()
    replay.get_by_role("button", name="One step back").click()
    assert lines.nth(0).text_content().rstrip() == "Turn 29."
    replay.locator(".seek").fill(str(FRAMES - 10))
    replay.get_by_role("button", name="Play").click()
    wait_until(lambda: replay.locator(".play").text_content() == "Play")  # it stops by itself at the end
    assert frame(page) == FRAMES - 1


def test_replay_follows_the_keyboard(page: Any) -> None:
    page.locator(".replay .forward").first.focus()
    for key, wanted in (
        ("ArrowRight", 1),
        ("ArrowRight", 2),
        ("ArrowLeft", 1),
        ("Shift+ArrowRight", 101),
        ("End", 599),
        ("Home", 0),
    ):
        page.keyboard.press(key)
        assert frame(page) == wanted
    page.keyboard.press("ArrowUp")
    assert page.locator(".speed").first.input_value() == "2"
    page.locator(".seek").first.focus()
    page.keyboard.press("Space")
    wait_until(lambda: frame(page) > 2)


def test_replay_shows_the_right_screen_in_any_order(page: Any) -> None:
    text = "frame => { const p = document.querySelector('.replay').player; p.go(frame); return p.lines[0].textContent }"
    for wanted in (599, 0, 170, 169, 380):
        assert page.evaluate(text, wanted).rstrip() == f"Turn {wanted}."


def test_theme_switch_changes_page_and_figures(page: Any) -> None:
    ink = "getComputedStyle(document.querySelector('#figures svg text')).fill"
    ground = "getComputedStyle(document.body).backgroundColor"
    before = page.evaluate(f"[{ink}, {ground}]")
    page.locator(".theme").click()
    after = page.evaluate(f"[{ink}, {ground}]")
    assert before[0] != after[0]
    assert before[1] != after[1]
    assert _light(before[0]) != _light(before[1])
    assert _light(after[0]) != _light(after[1])
    page.reload()
    assert page.evaluate(ground) == after[1]  # the choice is remembered


def _light(colour: str) -> bool:
    """Whether "rgb(r, g, b)" is nearer white than black."""
    channels = [int(value) for value in colour.removeprefix("rgb(").removesuffix(")").split(",")]
    return sum(channels) > 3 * 127


def test_points_of_figures_show_their_values(page: Any) -> None:
    tips = page.locator("#isoflop_dev_loss .tip > title")
    assert tips.count() >= 25
    assert "parameters\n" in tips.first.text_content()
    assert page.locator("#next figure svg").count() == 3
    assert page.locator("#figures svg").count() == 4


@pytest.mark.parametrize("width", [360, 390, 700, 1280, 2000])
def test_report_is_no_wider_than_the_window(page: Any, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    terminal = page.locator(".terminal").first.bounding_box()
    last, stage = (page.locator(name).first.bounding_box() for name in (".terminal div:last-child", ".stage"))
    assert last["y"] + last["height"] <= stage["y"] + stage["height"]
    assert terminal["width"] <= width
    assert terminal["width"] >= 0.9 * min(width - 50, 1050)


def test_text_of_figures_is_legible_on_a_phone(page: Any) -> None:
    page.set_viewport_size({"width": 390, "height": 844})
    sizes = "Array.from(document.querySelectorAll('figure svg text')).map(text => text.getBoundingClientRect().height)"
    assert min(page.evaluate(sizes)) >= 10
    answer = page.locator(".answer").bounding_box()
    assert answer["y"] + answer["height"] < 844


def test_the_printed_page_is_light_and_has_what_the_screen_folds(page: Any) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    assert _light(page.evaluate("getComputedStyle(document.body).backgroundColor"))
    for hidden in (".theme", ".numbers", ".screen", ".controls"):
        assert page.locator(hidden).first.evaluate("element => getComputedStyle(element).display") == "none"
    limits = "Array.from(document.querySelectorAll('.scroll')).map(element => getComputedStyle(element).maxHeight)"
    assert set(page.evaluate(limits)) == {"none"}
    assert page.locator("details.more .laws").first.evaluate("element => element.getBoundingClientRect().height") > 50


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1280])
def test_reproduction_page_opens_without_an_error(browser: Any, reproduced: Path, scheme: str, width: int) -> None:
    opened = browser.new_page(viewport={"width": width, "height": 800}, color_scheme=scheme)
    complaints: list[str] = []
    opened.on("console", lambda message: complaints.append(message.text))
    opened.on("pageerror", lambda error: complaints.append(str(error)))
    opened.goto(reproduced.as_uri())
    assert opened.evaluate("document.documentElement.scrollWidth") <= width
    assert opened.locator("section svg").count() == 14
    opened.locator("nav a", has_text="short").click()
    assert opened.url.endswith("#table-short")
    assert opened.evaluate("scrollY") > 500
    # the budgets of a study have its own shades, from the darkest on white (brightest on black) for its largest
    shade = "name => getComputedStyle(document.querySelector(`#table-${name} svg path[style*='--budget-3']`)).stroke"
    assert opened.evaluate(shade, "long") != opened.evaluate(shade, "short")
    tips = opened.locator("#table-short-isoflop_return_mean .tip > title").all_text_contents()
    assert tips
    assert not [tip for tip in tips if "left out: return not positive" in tip]
    ground = "getComputedStyle(document.body).backgroundColor"
    before = opened.evaluate(ground)
    opened.locator(".theme").click()
    assert opened.evaluate(ground) != before
    assert opened.evaluate(OVERLAPS) == []
    opened.close()
    assert complaints == []


# Texts that reach beyond their figure, and pairs of one figure whose boxes overlap by more than a hair.
OVERLAPS = """
Array.from(document.querySelectorAll("svg")).flatMap(svg => {
  const boxes = Array.from(svg.querySelectorAll("text")).map(t => [t.textContent, t.getBoundingClientRect()]);
  const all = svg.getBoundingClientRect();
  const found = boxes.filter(([, p]) => p.left < all.left - 1 || p.right > all.right + 1).map(([a]) => `outside: ${a}`);
  boxes.forEach(([a, p], i) => boxes.slice(i + 1).forEach(([b, q]) => {
    const wide = Math.min(p.right, q.right) - Math.max(p.left, q.left);
    const high = Math.min(p.bottom, q.bottom) - Math.max(p.top, q.top);
    if (wide > 1 && high > 3) found.push(`${a} | ${b}`);
  }));
  return found;
})
"""


def test_texts_of_figures_do_not_overlap(page: Any) -> None:
    assert page.evaluate(OVERLAPS) == []
