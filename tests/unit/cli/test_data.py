"""What `playscale prepare` prints."""

import shutil

from counting_game import record, register

from playscale.cli.data import prepare


def test_prepare_prints_each_reason_and_notes_missing_dev_games(tmp_path, monkeypatch, capsys):
    register(monkeypatch)
    source = record(tmp_path / "s", [5, 6], {1: "damaged"})
    (source / "0002.count").symlink_to("nowhere")
    for number in range(20):
        shutil.copyfile(source / "0000.count", source / f"0000_{number:02d}.count")
    prepare(str(source), str(tmp_path / "c"), game="counting", workers=1)
    lines = capsys.readouterr().out.split("\n")[:-1]
    assert lines[0] == "counting: 1 train games (5 transitions), 0 dev games (0 transitions), 22 recordings left out"
    assert lines[1] == "note: no dev games, without which nothing can be trained on it; prepare more games"
    assert lines[2] == "left out: 0000_00.count: the same game as 0000"
    assert len(lines) == 2 + 20 + 1
    assert lines[-1] == f"2 more are listed in {tmp_path}/c/corpus.json"
