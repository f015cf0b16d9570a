"""What is written is read back; what is damaged is refused with one clear line."""

import json
from pathlib import Path

import numpy as np
import pytest
import zstandard
from counting_game import ACTIONS, COLUMNS, plant, transitions
from hypothesis import given, settings
from hypothesis import strategies as st

from playscale.corpus.corpus import Corpus
from playscale.corpus.layout import BLOCK, Decoder, Layout
from playscale.corpus.manifest import GameRecord, Shard, _parse
from playscale.corpus.reader import GameReader, StoredSections
from playscale.corpus.shards import rebatch, write_section
from playscale.storage.storage import LocalStorage

LENGTHS = [1, 640, 641, 2000]


@pytest.fixture
def folder(tmp_path):
    return plant(tmp_path / "corpus", LENGTHS, dev={1, 3})


def test_games_are_read_back_whole(folder):
    corpus = Corpus.open(folder)
    assert (corpus.game, corpus.num_actions, corpus.uri) == ("counting", ACTIONS, str(folder))
    assert [game.transitions for game in corpus.games] == LENGTHS
    assert (corpus.transitions("train"), corpus.transitions("dev")) == (642, 2640)
    assert len(list(folder.glob("shard-*"))) > 1
    for number, length in enumerate(LENGTHS):
        read = corpus.read_game(number)
        for name, array in transitions(number, length).items():
            assert np.array_equal(read[name], array), name
        assert read["prev_action"].tolist() == [ACTIONS, *read["action"][:-1]]
        assert np.flatnonzero(read["done"]).tolist() == [0]
        assert (read["game_id"] == number).all()
        assert all(np.array_equal(array, corpus.read_game(str(number))[name]) for name, array in read.items())
    with pytest.raises(ValueError, match="no game 'nobody'"):
        corpus.read_game("nobody")
    with pytest.raises(ValueError, match="no game 4"):
        corpus.read_game(4)


def test_stream_has_the_promised_dtypes(folder):
    batch = next(Corpus.open(f"file://{folder}").stream(batch=3, unroll=5))
    shapes = {name: (array.dtype.name, array.shape) for name, array in batch.items()}
    assert shapes == {
        "where": ("int32", (5, 3, 2)),
        "pixels": ("uint8", (5, 3, 2, 3)),
        "action": ("int64", (5, 3)),
        "prev_action": ("int64", (5, 3)),
        "done": ("bool", (5, 3)),
        "score": ("int32", (5, 3)),
        "game_id": ("int64", (5, 3)),
        "valid": ("bool", (5, 3)),
    }


def test_digest_follows_content_and_not_the_shards(tmp_path):
    one = Corpus.open(plant(tmp_path / "1", LENGTHS, {1}))
    assert Corpus.open(plant(tmp_path / "2", LENGTHS, {1}, shard_bytes=10**9)).digest == one.digest
    assert Corpus.open(plant(tmp_path / "3", LENGTHS, {2})).digest != one.digest
    assert Corpus.open(plant(tmp_path / "4", [*LENGTHS[:3], 1999], {1})).digest != one.digest


def test_any_damaged_byte_of_a_shard_is_found_and_named(folder):
    """Flip one byte at a time; whichever game it lies in, reading that game says so, and no other game is harmed."""
    corpus = Corpus.open(folder)
    rng = np.random.default_rng(0)
    for index, game in enumerate(corpus.games):
        shard = folder / f"shard-{game.shard:05d}"
        whole = shard.read_bytes()
        places = {0, game.size - 1, game.size - 5, *rng.integers(0, game.size, 20).tolist()}
        for place in places:
            harmed = bytearray(whole)
            harmed[game.offset + place] ^= 0x40
            shard.write_bytes(harmed)
            with pytest.raises(
                ValueError, match=rf"{shard.name}: game {game.key}\b.*damaged.*prepare the corpus again"
            ):
                corpus.read_game(index)
            assert len(corpus.read_game(1 - min(index, 1))["action"]) == LENGTHS[1 - min(index, 1)]
        shard.write_bytes(whole)


def test_a_stream_over_a_damaged_shard_says_so(folder):
    corpus = Corpus.open(folder)
    game = corpus.games[2]
    shard = folder / f"shard-{game.shard:05d}"
    harmed = bytearray(shard.read_bytes())
    harmed[game.offset + 10] ^= 1
    shard.write_bytes(harmed)
    with pytest.raises(ValueError, match=r"game 2: damaged section \(its checksum"):
        next(corpus.stream(batch=2, unroll=10))
    shard.unlink()
    with pytest.raises(ValueError, match=f"{shard.name}: missing"):
        next(corpus.stream(batch=2, unroll=10))


def edit(folder, change):
    path = folder / "corpus.json"
    value = json.loads(path.read_text())
    del value["checksum"], value["stats"]  # as version 0.1 wrote it
    change(value)
    path.write_text(json.dumps(value))


def field(value, game, name):
    return value["games"]["rows"][game], value["games"]["fields"].index(name)


def exchange_sections(value):
    """Give the equally long games 1 and 4 each other's place."""
    for name in ("shard", "offset", "size"):
        (one, i), (other, _) = field(value, 1, name), field(value, 4, name)
        one[i], other[i] = other[i], one[i]


def claim(name, claimed):
    """Change a field of game 1, with the digest that follows."""

    def change(value):
        row, i = field(value, 1, name)
        row[i] = claimed
        value["digest"] = digest_of(value)

    return change


def claim_top(name, claimed):
    def change(value):
        value[name] = claimed
        value["digest"] = digest_of(value)

    return change


def digest_of(value):
    try:
        return _parse(value).digest
    except ValueError:
        return ""


def test_games_with_exchanged_places_are_not_read_as_each_other(tmp_path):
    folder = plant(tmp_path / "c", [5, 640, 3, 9, 640], {1, 3})
    edit(folder, exchange_sections)
    corpus = Corpus.open(folder)
    for number in (1, 4):
        with pytest.raises(ValueError, match=rf"game {number}: damaged section"):
            corpus.read_game(number)
    assert len(corpus.read_game(0)["action"]) == 5


def test_any_damage_to_the_manifest_is_found(folder):
    path = folder / "corpus.json"
    whole = path.read_bytes()
    rng = np.random.default_rng(0)
    for place in [*rng.integers(0, len(whole), 100).tolist(), whole.index(b'"offset"')]:
        for bit in (0x01, 0x10):
            harmed = bytearray(whole)
            harmed[place] ^= bit
            path.write_bytes(harmed)
            with pytest.raises(ValueError, match=r"corpus.json: ") as caught:
                Corpus.open(folder)
            assert "\n" not in str(caught.value)


def test_a_block_that_is_longer_than_it_should_be_is_refused():
    layout = Layout(COLUMNS)
    stored = layout.encode(transitions(1, 9), ACTIONS, zstandard.ZstdCompressor())
    with pytest.raises(ValueError, match=r"damaged block \(\d+ bytes or more in place of"):
        Decoder(layout).decode(stored, 8)
    bomb = zstandard.ZstdCompressor().compress(bytes(10**8))
    with pytest.raises(ValueError, match="damaged block"):
        Decoder(layout).decode(bomb, 640)


def cut_rows(value):
    value["games"]["rows"].pop()


def swap_split(value):
    value["games"]["rows"][0][1] = "dev"


def drop_digest(value):
    del value["digest"]


def drop_field(value):
    value["games"]["fields"][0] = "name"


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda f: edit(f, cut_rows), "damaged"),
        (lambda f: edit(f, swap_split), "damaged"),
        (lambda f: edit(f, drop_digest), "damaged"),
        (lambda f: edit(f, drop_field), "damaged"),
        (lambda f: edit(f, lambda v: v.pop("shards")), "damaged.*'shards'"),
        (lambda f: edit(f, claim("transitions", 10**12)), r"game 1: \d+ bytes cannot hold 1e\+12 transitions"),
        (lambda f: edit(f, claim("transitions", 0)), "damaged.*games.1.transitions"),
        (lambda f: edit(f, claim("transitions", "640")), "damaged.*games.1.transitions"),
        (lambda f: edit(f, claim("offset", -1)), "damaged.*games.1.offset"),
        (lambda f: edit(f, claim("size", 10**12)), "game 1: its section is not within a shard"),
        (lambda f: edit(f, claim("shard", 99)), "game 1: its section is not within a shard"),
        (lambda f: edit(f, claim_top("num_actions", 10**9)), "damaged.*num_actions"),
        (lambda f: edit(f, claim_top("columns", {"x": {"shape": [10**9], "dtype": "uint8"}})), "would take"),
        (lambda f: edit(f, claim_top("columns", {"x": {"shape": [1], "dtype": "O"}})), "damaged.*column x"),
        (lambda f: edit(f, claim_top("columns", {"x": {"shape": [1], "dtype": "nonsense"}})), "damaged"),
        (lambda f: edit(f, lambda v: v.update(schema=99)), "schema 99, not 1"),
        (lambda f: edit(f, lambda v: v.update(format="other")), "not the manifest of a corpus"),
        (lambda f: (f / "corpus.json").write_text("[1, 2"), "not valid JSON"),
        (lambda f: (f / "corpus.json").write_bytes(b"\xff\xfe\x00"), "corpus.json"),
        (lambda f: (f / "corpus.json").write_text("[]"), "not the manifest of a corpus"),
        (lambda f: (f / "corpus.json").unlink(), "not a corpus"),
        (lambda f: (f / "shard-00000").unlink(), "shard-00000: missing"),
        (lambda f: (f / "shard-00000").write_bytes(b"short"), "shard-00000: 5 bytes, not"),
    ],
)
def test_damaged_corpora_are_refused(folder, harm, says):
    harm(folder)
    with pytest.raises(ValueError, match=says) as caught:
        Corpus.open(folder)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "says"),
    [("nowhere", "no such corpus"), ("ftp://bucket/x", "neither a local path"), ("s3:///x", "s3://BUCKET/PREFIX")],
)
def test_missing_corpora_are_refused(uri, says):
    with pytest.raises(ValueError, match=says):
        Corpus.open(uri)


@settings(max_examples=50)
@given(st.lists(st.integers(1, 2000), min_size=1, max_size=8))
def test_rebatch_keeps_all_and_fills_blocks(lengths):
    ends = np.cumsum(lengths)
    blocks = [{"action": np.arange(end - length, end)} for length, end in zip(lengths, ends, strict=True)]
    out = [block["action"] for block in rebatch(blocks)]
    assert np.array_equal(np.concatenate(out), np.arange(ends[-1]))
    assert all(len(block) == BLOCK for block in out[:-1])
    assert 1 <= len(out[-1]) <= BLOCK


def test_blocks_can_be_read_alone_and_in_any_order(tmp_path):
    layout, path = Layout(COLUMNS), Path(tmp_path / "section")
    whole = transitions(3, 1500)
    section = write_section(path, [whole], layout, ACTIONS)
    game = GameRecord("3", "train", 0, 0, section.size, 1500, 0.0, section.checksum, {})
    sections = StoredSections(LocalStorage(tmp_path), [Shard("section", section.size)])
    reader = GameReader(sections, game, Decoder(layout))
    for block in (2, 0, 1):
        part = slice(block * BLOCK, (block + 1) * BLOCK)
        arrays = reader.read(block)
        assert np.array_equal(arrays["pixels"], whole["pixels"][part])
        assert np.array_equal(arrays["actions"][1:], whole["action"][part])
        assert arrays["actions"][0] == (whole["action"][block * BLOCK - 1] if block else ACTIONS)


def test_an_empty_game_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no transition"):
        write_section(tmp_path / "section", [], Layout(COLUMNS), ACTIONS)
