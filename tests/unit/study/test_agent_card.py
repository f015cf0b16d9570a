"""The agents that a study registers: the best by its own rules, with what is known of them on their cards."""

from dataclasses import replace

from playscale.points import Point, Reference
from playscale.study.agent_card import best_agents, registered_agents, with_interval
from playscale.study.spec import StudySpec

SPEC = {"name": "toy", "sizes": ["10k", "30k"], "budgets": [1e11, 3e11], "source": {"corpus": "c"}}
POINT = Point(
    game="nethack", method="bc", run="bc-lstm-10k-s0", seed=0, size="10k", flops=1e11, params=10_013, samples=9_216,
    dev_loss=2.0, dev_loss_se=0.1, return_mean=50.0, return_se=5.0, episodes=100,
)  # fmt: skip


def test_best_are_fitted_points_of_the_recipe():
    better = {"dev_loss": 1.0, "return_mean": 90.0}
    none = [
        replace(POINT, **better, split="held-out"),
        replace(POINT, **better, extra={"diverged": "loss of 9"}),
        replace(POINT, **better, extra={"varied": "batch=32"}),
        replace(POINT, dev_loss=None, return_mean=None),
    ]
    loses = replace(POINT, size="30k", dev_loss=1.5, return_mean=40.0)
    best = best_agents([*none, POINT, loses])
    assert best["best-loss"].point is loses
    assert best["best-return"].point is POINT
    assert best["best-return"].chosen_from == 2
    assert best_agents(none) == {}


def test_mean_of_the_seeds_is_the_cell():
    lucky = [replace(POINT, seed=i, return_mean=value) for i, value in enumerate((90.0, 10.0))]
    steady = [replace(POINT, size="30k", seed=i, return_mean=value) for i, value in enumerate((60.0, 70.0))]
    assert best_agents([*lucky, *steady])["best-return"].point is steady[1]


def test_key_of_the_spec_chooses_who_is_registered():
    points = [POINT, replace(POINT, flops=3e11, dev_loss=1.9), replace(POINT, flops=3e11, split="held-out")]

    def registered(**keys):
        return [(one.point, one.aliases) for one in registered_agents(StudySpec(**SPEC, **keys), points, [], {})]

    assert registered() == [(points[0], ("best-return",)), (points[1], ("best-loss",))]
    assert [point for point, _ in registered(registry="all")] == points
    assert registered(registry="none") == []


def test_card_says_what_was_measured_and_how_it_was_chosen():
    references = [Reference("random", 3.25, 0.1, 100)]
    details = {"corpus": "64 games of an expert"}
    (agent,) = registered_agents(StudySpec(**SPEC), [POINT], references, details)
    assert agent.tags["return"] == "50 (40.2 to 59.8)"
    assert agent.tags["flops"] == "1e+11"
    assert agent.card.startswith(
        "Behavioural cloning: 10k parameters, 1e+11 FLOPs."
    )  # no heading: lists show the text as it is
    for text in (
        "50 (40.2 to 59.8), 100 episodes",
        "2 (1.804 to 2.196) nats per action",
        "It is `best-loss` of 1 agent and `best-return` of 1 agent by these measurements.",
        "64 games of an expert",
        "random 3.25",
        "What it is not for",
    ):
        assert text in agent.card
    (unplayed,) = registered_agents(StudySpec(**SPEC), [replace(POINT, return_mean=None)], [], {})
    assert unplayed.aliases == ("best-loss",)
    assert "| return in nethack | not measured |" in unplayed.card


def test_interval_needs_a_standard_error():
    assert with_interval(None, 1.0) == ""
    assert with_interval(12.5, None) == "12.5"
