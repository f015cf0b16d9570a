import json
import re

from report_study import make_replay

from playscale.report.watch_page import GAME_BYTES, EncodedReplay, PageEntry, fitted, write_watch_page

NAMES = ("a", "b", "c")


def games(frames, decisions):
    return [
        EncodedReplay(name, "", "f" * size, "d" * more)
        for name, size, more in zip(NAMES, frames, decisions, strict=True)
    ]


def test_everything_that_fits_is_kept():
    asked = games((500, 400, 300), (20, 0, 30))
    assert fitted(asked, 3, 1250 + 3 * (GAME_BYTES + 1)) == (asked, "")


def test_decisions_are_dropped_before_games():
    kept, note = fitted(games((500, 400, 300), (20, 0, 30)), 3, 1249 + 3 * (GAME_BYTES + 1))
    assert [(one.title, len(one.decisions)) for one in kept] == [("a", 20), ("b", 0), ("c", 0)]
    assert note == "Left out, since the page holds at most 50 MB: the agent's decisions in 1 game."


def test_the_games_after_the_first_that_does_not_fit_are_not_read():
    read = []

    def one_by_one():
        for game in games((500, 400, 1), (20, 0, 30)):
            read.append(game.title)
            yield game

    kept, note = fitted(one_by_one(), 3, 899 + 2 * (GAME_BYTES + 1))
    assert [one.title for one in kept] == ["a"]
    assert read == ["a", "b"]
    assert note == "Left out, since the page holds at most 50 MB: 2 games."


def test_a_page_lists_its_games_and_loads_nothing(tmp_path):
    path = tmp_path / "games.html"
    entries = [PageEntry("</script><b>", "best: 1", "best"), PageEntry("</script><b>", "worst: 0", "worst")]
    encoded = [EncodedReplay.of(make_replay(7, seed)) for seed in range(2)]
    write_watch_page(path, entries, encoded, title="Games", subtitle="two", note="Left out: <one>.")
    text = path.read_text()
    (listed,) = re.findall(r'<script type="application/json" id="games">(.*?)</script>', text, re.DOTALL)
    assert [(one["agent"], one["label"], one["role"], one["id"]) for one in json.loads(listed)] == [
        ("0", "best: 1", "best", 0),
        ("0", "worst: 0", "worst", 1),
    ]
    assert "Left out: &lt;one&gt;." in text
    assert "<b>" not in text
    assert text.count('id="frames-') == 2
    assert "decisions-0" not in text
    assert not re.findall(r'(?:src|href)="', text)
