"""evaluation.json: read as it was written, refused when it is damaged."""

import json

import pytest

from playscale.rollout.episode import Episode
from playscale.rollout.evaluation import EvalSettings, Evaluation, read_evaluation, write_evaluation


@pytest.fixture
def written(tmp_path):
    """An evaluation and its file."""
    episodes = tuple(Episode(i, 10 + i, 5.0 * i, 20, i == 0, {"role": "Tou"}) for i in range(2))
    evaluation = Evaluation("agent", "counting", EvalSettings(2, 100, 10, 1.0), episodes, 3.5, train_seeds=((10, 10),))
    write_evaluation(tmp_path / "evaluation.json", evaluation)
    return evaluation, tmp_path / "evaluation.json"


def change(path, edit):
    document = json.loads(path.read_text())
    edit(document)
    path.write_text(json.dumps(document))


def test_evaluation_is_read_as_it_was_written(written):
    evaluation, path = written
    assert read_evaluation(path) == evaluation


def test_evaluation_of_an_earlier_version_has_no_checksum(written):
    evaluation, path = written
    change(path, lambda document: document.pop("checksum"))
    assert read_evaluation(path) == evaluation


@pytest.mark.parametrize(
    "edit",
    [
        lambda document: document["episodes"][1].update({"return": 6.0}),
        lambda document: document["settings"].update(seed=11),
        lambda document: document.pop("return_mean"),
    ],
    ids=["return", "seed", "mean"],
)
def test_changed_evaluation_is_refused(written, edit):
    _, path = written
    change(path, edit)
    with pytest.raises(ValueError, match=r"evaluation\.json: damaged"):
        read_evaluation(path)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("settings", {"episodes": []}),
        ("settings", 3),
        ("episodes", [[]]),
        ("episodes", []),
        ("episodes", None),
        ("seconds", "long"),
        ("recordings", [1]),
        ("train_seeds", [["a", 1]]),
        ("schema", 2),
    ],
)
def test_evaluation_with_a_value_of_another_type_is_refused(written, key, value):
    _, path = written
    change(path, lambda document: document.update({key: value}) or document.pop("checksum"))
    with pytest.raises(ValueError, match=r"evaluation\.json: not an evaluation"):
        read_evaluation(path)


def test_file_that_is_no_document_is_refused(written):
    _, path = written
    path.write_text("[]")
    with pytest.raises(ValueError, match="not an evaluation"):
        read_evaluation(path)
