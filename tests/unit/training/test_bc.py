"""Behavioural cloning: against a slow twin, and what a run leaves behind."""

import json
import math
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
import torch.nn.functional as F
import toy_game

from playscale.agents.checkpoint import load_checkpoint, load_policy
from playscale.agents.flops import params, training_flops_per_sample
from playscale.agents.policy import build_policy
from playscale.agents.sizing import config_for_size
from playscale.config import TrainConfig, budget_name
from playscale.corpus.prepare import prepare
from playscale.points import read_points, to_row
from playscale.storage import files
from playscale.training import bc
from playscale.training.dev_loss import DevLoss, dev_loss
from playscale.training.losses import bc_loss
from playscale.training.metrics import NonFiniteError
from playscale.training.trainer import train

BATCH, UNROLL, RATE, WARMUP, CLIP = 4, 8, 0.01, 3, 0.5


def config(steps=(), **values):
    """A run of the smallest size with a budget at each of these steps."""
    given = {"size": "10k", "batch": BATCH, "unroll": UNROLL, "learning_rate": RATE, "warmup_steps": WARMUP}
    budgets = tuple(float(step * BATCH * UNROLL * per_sample()) for step in steps)
    return TrainConfig(**given | {"clip_norm": CLIP, "dev_samples": 200, "budgets": budgets} | values)


def per_sample():
    return training_flops_per_sample(config_for_size(toy_game.Recall(), "10k", "lstm"))


class Curves(list):
    def log_metrics(self, metrics, samples):
        self.append((samples, dict(metrics)))

    def of(self, name):
        return {samples: metrics[name] for samples, metrics in self if name in metrics}


def twin(corpus, rates):
    """The weights after len(rates) steps, by a loop as plain as possible."""
    torch.manual_seed(0)
    policy = build_policy(config_for_size(toy_game.Recall(), "10k", "lstm"))
    optimizer = torch.optim.Adam(policy.parameters(), foreach=False, fused=False)
    state = policy.initial_state(BATCH)
    stream = corpus.stream(batch=BATCH, unroll=UNROLL, split="train", seed=0)
    for rate, arrays in zip(rates, stream, strict=False):
        batch = {name: torch.from_numpy(array) for name, array in arrays.items()}
        logits, _, state = policy(batch, state)
        optimizer.zero_grad()
        F.cross_entropy(logits.flatten(0, 1), batch["action"].flatten()).backward()
        norm = math.sqrt(sum(float((p.grad.double() ** 2).sum()) for p in policy.parameters()))
        for p in policy.parameters():
            p.grad *= min(1.0, CLIP / norm)
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
    return policy


def assert_same_weights(path, policy):
    for name, value in load_checkpoint(path).weights.items():
        torch.testing.assert_close(value, policy.state_dict()[name], rtol=1e-3, atol=1e-5)


def warm(step):
    return RATE * min(1.0, (step + 1) / (WARMUP + 1))


def test_the_loss_is_the_mean_over_valid_transitions():
    rng = np.random.default_rng(0)
    logits, action = rng.normal(size=(5, 3, 4)), rng.integers(0, 4, (5, 3))
    valid = rng.random((5, 3)) < 0.6
    total = 0.0
    for t, b in zip(*np.nonzero(valid), strict=True):
        p = np.exp(logits[t, b]) / np.exp(logits[t, b]).sum()
        total -= math.log(p[action[t, b]])
    found = bc_loss(torch.tensor(logits), torch.tensor(action), torch.tensor(valid))
    assert float(found) == pytest.approx(total / valid.sum())


def test_a_run_is_what_a_plain_loop_makes(recall, tmp_path):
    points = train(config([6, 20]), tmp_path, recall.uri)
    for point, steps in zip(points, (6, 20), strict=True):
        path = tmp_path / "checkpoints" / budget_name(point.flops)
        assert_same_weights(path, twin(recall, [warm(step) for step in range(steps)]))


def test_averaged_weights_are_the_mean_over_steps_and_leave_the_run_alone(recall, tmp_path):
    points = train(config([5, 10], average=0.5), tmp_path, recall.uri)
    steps = [twin(recall, [warm(step) for step in range(count)]) for count in range(1, 11)]
    for point, count in zip(points, (5, 10), strict=True):
        shares = [(s**3 - (s - 1) ** 3) / count**3 for s in range(1, count + 1)]
        mean = build_policy(config_for_size(toy_game.Recall(), "10k", "lstm"))
        with torch.no_grad():
            for parameter, *values in zip(mean.parameters(), *(p.parameters() for p in steps[:count]), strict=True):
                parameter.copy_(sum(share * value for share, value in zip(shares, values, strict=True)))
        path = tmp_path / "checkpoints" / budget_name(point.flops)
        assert_same_weights(path, mean)
        policy = load_policy(path)[0]
        measured = dev_loss(policy, recall, 200, torch.device("cpu"), "fp32")
        assert point.dev_loss == pytest.approx(measured.loss)
    assert_same_weights(tmp_path / "resume" / "000000010", steps[-1])


def test_a_cooldown_branch_leaves_the_run_alone(recall, tmp_path):
    points = train(config([10, 20], cooldown=0.4), tmp_path, recall.uri)
    assert [point.samples for point in points] == [10 * BATCH * UNROLL, 20 * BATCH * UNROLL]
    for point, steps, leaves in zip(points, (10, 20), (6, 12), strict=True):
        branch = [RATE * (steps - step) / (steps - leaves + 1) for step in range(leaves, steps)]
        path = tmp_path / "checkpoints" / budget_name(point.flops)
        assert_same_weights(path, twin(recall, [warm(step) for step in range(leaves)] + branch))
    assert_same_weights(tmp_path / "resume" / "000000012", twin(recall, [warm(step) for step in range(12)]))
    left = {"checkpoints", "curve.csv", "points.csv", "resume", "run.json"}
    assert {path.name for path in tmp_path.iterdir() if path.name != ".lock"} == left


def test_the_points_say_what_was_trained(recall, tmp_path):
    asked = config([10], held_out=(20.4 * BATCH * UNROLL * per_sample(),), seed=7)
    points = train(asked, tmp_path, recall.uri)
    policy, _ = load_policy(tmp_path / "checkpoints" / budget_name(points[0].flops))
    assert [point.split for point in points] == ["fit", "held-out"]
    assert [point.flops for point in points] == list(asked.cells)
    assert [point.samples for point in points] == [10 * BATCH * UNROLL, 20 * BATCH * UNROLL]
    for point in points:
        assert (point.game, point.method, point.run, point.seed) == ("recall", "bc", "bc-lstm-10k-s7", 7)
        assert point.params == params(policy)
        assert float(point.extra["flops_6nd"]) == pytest.approx(6 * point.params * point.samples, rel=1e-5)
        assert point.dev_loss_se > 0
        assert point.return_mean is None
        meta = load_checkpoint(tmp_path / "checkpoints" / budget_name(point.flops), expect_game="recall").meta
        assert meta["point"]["dev_loss"] == point.dev_loss
        assert meta["dev_samples"] == min(200, recall.transitions("dev"))
        seeds = {seed for first, last in meta["train_seeds"] for seed in range(first, last + 1)}
        assert seeds == {game.metadata["seed"] for game in recall.games if game.split == "train"}
    assert [to_row(point) for point in read_points(tmp_path / "points.csv")] == [to_row(point) for point in points]


def test_points_has_a_row_for_every_checkpoint_of_its_directory(recall, tmp_path):
    [first] = train(config([6]), tmp_path, recall.uri)
    both = train(config([9]), tmp_path, recall.uri)
    assert [point.samples for point in both] == [6 * BATCH * UNROLL, 9 * BATCH * UNROLL]
    assert both[0] == first
    assert read_points(tmp_path / "points.csv") == both


@pytest.mark.parametrize(
    "text", ["[]", "3", "{}", '{"config": 1, "source": {}}', '{"config": {}, "source": {"corpus": 2}}']
)
def test_damaged_record_of_a_run_is_refused_in_one_line(recall, tmp_path, text):
    (tmp_path / "run.json").write_text(text)
    with pytest.raises(ValueError, match=r"run\.json: damaged [^\n]*$"):
        train(config([6]), tmp_path, recall.uri)


def test_point_worse_than_uniform_actions_is_marked_as_diverged(recall, tmp_path):
    [point] = train(config([10], learning_rate=3.0), tmp_path, recall.uri)
    assert point.dev_loss > math.log(5)
    assert point.diverged == "dev loss above 1.609 (uniform actions)"
    assert read_points(tmp_path / "points.csv") == [point]
    assert train(config([10], learning_rate=3.0), tmp_path, recall.uri) == [point]


def test_cell_of_a_run_that_lost_what_it_had_learned_is_marked_as_diverged(recall, tmp_path, monkeypatch):
    losses = iter([0.2, 0.3, 1.0])  # by uniform actions 1.609: 0.905 is half of the way there
    monkeypatch.setattr(bc, "dev_loss", lambda *_: DevLoss(next(losses), 0.01, 200, 4))
    train(config([6]), tmp_path, recall.uri)
    points = train(config([6, 9, 12]), tmp_path, recall.uri)
    reason = "dev loss rose from 0.200 to 1.000, near to the 1.609 of uniform actions"
    assert [point.diverged for point in points] == ["", "", reason]
    assert [point.diverged for point in read_points(tmp_path / "points.csv")] == ["", "", reason]
    assert train(config([6, 9, 12]), tmp_path, recall.uri) == points


def test_training_refuses_a_directory_that_another_one_writes_to(recall, tmp_path, monkeypatch):
    monkeypatch.setattr(files, "LOCK_SECONDS", 0.1)
    lock = files.locked(tmp_path, "training")
    with ThreadPoolExecutor(1) as other:
        other.submit(lock.__enter__).result()
        with pytest.raises(ValueError, match="another training is writing there"):
            train(config([6]), tmp_path, recall.uri)
        assert [path.name for path in tmp_path.iterdir()] == [".lock"]
        other.submit(lock.__exit__, None, None, None).result()
        assert len(train(config([6]), tmp_path, recall.uri)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("core", ["lstm", "transformer"])
def test_cloning_learns_what_only_memory_can_know(recall, tmp_path, core):
    """Without memory, no policy is better than a guess among the cues at each question."""
    dev = np.concatenate([recall.read_game(game.key)["symbol"] for game in recall.games if game.split == "dev"])
    without_memory = (dev == toy_game.QUESTION).mean() * math.log(toy_game.CUES)
    size = config_for_size(toy_game.Recall(), "10k", core)
    budget = 700 * 8 * 32 * training_flops_per_sample(size)
    asked = TrainConfig(size="10k", core=core, budgets=(budget,), batch=8, unroll=32, learning_rate=4e-3)
    assert train(asked, tmp_path, recall.uri)[0].dev_loss < 0.5 * without_memory


def test_curves_and_progress(recall, tmp_path):
    curves, told = Curves(), []
    train(config([40, 300], dev_samples=20), tmp_path, recall.uri, curves, lambda *now: told.append(now))
    step = BATCH * UNROLL
    assert list(curves.of("train_loss")) == [step * i for i in range(3, 301, 3)]
    assert curves.of("learning_rate")[3 * step] == pytest.approx(warm(2))
    assert curves.of("flops")[300 * step] == 300 * step * per_sample()
    assert min(curves.of("samples_per_second").values()) > 0
    assert min(curves.of("grad_norm").values()) > 0
    looks = curves.of("dev_loss")
    assert {40 * step, 300 * step} < set(looks)
    assert len(looks) > 5
    fractions = [fraction for _, fraction in told]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1.0
    assert all(what.startswith("train 10k: ") for what, _ in told)
    assert sum("dev loss" in what for what, _ in told) == 2
    assert sum("samples/s" in what for what, _ in told) == 100


def test_the_reported_loss_is_the_mean_since_the_last_report(recall, tmp_path):
    every, third = Curves(), Curves()
    train(config([60]), tmp_path / "a", recall.uri, every)
    train(config([60, 300]), tmp_path / "b", recall.uri, third)
    losses = list(every.of("train_loss").values())
    assert len(losses) == 60
    means = [np.mean(losses[i : i + 3]) for i in range(0, 60, 3)]
    assert list(third.of("train_loss").values())[:20] == pytest.approx(means)


def test_a_loss_that_runs_away_stops_the_run_and_says_on_what(recall, tmp_path):
    curves = Curves()
    with pytest.raises(
        NonFiniteError, match=r"became (nan|inf|-inf) at step \d+ \([\d,]+ samples\).*recall-0000"
    ) as caught:
        train(config([10, 50], learning_rate=1e25, clip_norm=1e9, save_seconds=1e-9), tmp_path, recall.uri, curves)
    record = json.loads((tmp_path / "nonfinite.json").read_text())
    assert record == caught.value.record
    assert record["samples"] == record["step"] * BATCH * UNROLL
    arrays = list(zip(range(record["step"]), recall.stream(batch=BATCH, unroll=UNROLL), strict=False))[-1][1]
    assert record["games"] == sorted({recall.games[index].key for index in np.unique(arrays["game_id"])})
    saved = list((tmp_path / "resume").iterdir())
    assert [int(path.name) for path in saved] == [record["step"] - 1]
    assert all(torch.isfinite(value).all() for value in load_checkpoint(saved[0]).weights.values())
    assert not list(tmp_path.rglob("*.partial"))


def test_bf16_trains_on_a_cpu_when_asked(recall, tmp_path):
    point = train(config([30], precision="bf16"), tmp_path, recall.uri)[0]
    path = tmp_path / "checkpoints" / budget_name(point.flops)
    assert load_checkpoint(path).meta["precision"] == "bf16"
    assert all(value.dtype == torch.float32 for value in load_checkpoint(path).weights.values())
    assert point.dev_loss < math.log(5)


def test_bad_input_is_one_clear_line(recall, tmp_path):
    with pytest.raises(ValueError, match=r"10k.*fewer than 5 optimizer steps"):
        train(config([2]), tmp_path / "out", recall.uri)
    with pytest.raises(ValueError, match="device 'cuda:99' is not here"):
        train(config([6], device="cuda:99"), tmp_path / "out", recall.uri)
    with pytest.raises(ValueError, match="device 'gpu' is unknown"):
        train(config([6], device="gpu"), tmp_path / "out", recall.uri)
    games = toy_game.record_games(tmp_path / "games", 1)
    no_dev = prepare(games, tmp_path / "corpus", game="recall", workers=1).uri
    with pytest.raises(ValueError, match="corpus: no game in its dev split; prepare a corpus of more games"):
        train(config([6]), tmp_path / "out", no_dev)
    assert not (tmp_path / "out").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        train(config([6]), tmp_path / "file" / "out", recall.uri)


def test_the_caller_keeps_its_random_numbers(recall, tmp_path):
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    train(config([6]), tmp_path, recall.uri)
    assert torch.equal(torch.rand(3), expected)
