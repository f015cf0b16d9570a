"""Agents in the registry of a real MLflow server, over HTTP: registered once, loaded by both ways, a game played."""

import mlflow.pyfunc
import pytest
import torch
from mlflow_server import MlflowServer

from playscale import load_policy
from playscale.agents.checkpoint import save_checkpoint
from playscale.agents.policy import build_policy
from playscale.agents.sizing import config_for_size
from playscale.games.game import get_game
from playscale.points import Point
from playscale.tracking.client import TrackingClient
from playscale.tracking.mlflow_tracker import MlflowExperiment
from playscale.tracking.pyfunc_agent import ServedAgent
from playscale.tracking.tracker import RegisteredAgent

pytestmark = pytest.mark.slow  # starts a server and imports mlflow.pyfunc
ADDRESS = "models:/playscale.toy@best-return"
POINT = Point(game="recall", method="bc", run="bc-lstm-8k-s0", seed=0, size="8k", flops=3e10, params=8e3, samples=900)
AGENT = RegisteredAgent(POINT, "toy", ("best-return",), "Toys.", "# A toy", {"size": "8k"})


@pytest.fixture(scope="module")
def url(registered, tmp_path_factory):
    """The address of a server with an agent that was registered twice, as by a study that is run again."""
    folder = tmp_path_factory.mktemp("server")
    policy = build_policy(config_for_size(get_game("recall"), "8k", "lstm")).eval()
    save_checkpoint(folder / "checkpoint", policy, {"point": {}})
    server = MlflowServer(f"sqlite:///{folder}/m.db", folder / "artifacts", folder / "log")
    server.start()
    try:
        for again in range(2):
            with TrackingClient("toy", server.url).open(folder / f"{again}.spool") as experiment:
                experiment.log_point(POINT).log_artifacts(folder / "checkpoint", "checkpoint")
                experiment.register(AGENT)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("MLFLOW_TRACKING_URI", server.url)
            yield server.url
    finally:
        server.kill()


def played(agent):
    """The score and the actions of one game."""
    env, out, over, actions = get_game("recall").make_env(max_steps=200), {}, False, []
    seen = env.reset(seed=1)
    while not over:
        out = agent.predict({**{name: array[None] for name, array in seen.items()}, **out}, params={"temperature": 0.0})
        actions.append(int(out["action"][0]))
        step = env.step(actions[-1])
        seen, over = step.observation, step.terminated or step.truncated
    return step.score, actions


def test_registering_again_makes_no_second_version(url):
    (version,) = MlflowExperiment("toy", url).client.search_model_versions("name = 'playscale.toy'")
    assert version.status == "READY"
    assert version.tags["size"] == "8k"
    assert version.description.startswith("# A toy")


def test_game_of_the_policy_is_that_of_mlflow_pyfunc(url):
    torch.manual_seed(0)
    policy, checkpoint = load_policy(ADDRESS)
    assert checkpoint.config.game == "recall"
    loaded = mlflow.pyfunc.load_model(ADDRESS)
    assert played(ServedAgent(policy)) == played(loaded)
