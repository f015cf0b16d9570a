"""Agents in MLflow's registry, in a real store: registered once, loaded by alias, played one action at a time."""

import numpy as np
import pytest
import torch

from playscale import load_policy
from playscale.agents.checkpoint import save_checkpoint
from playscale.agents.policy import build_policy
from playscale.agents.sizing import config_for_size
from playscale.games.game import get_game
from playscale.points import Point
from playscale.tracking import client as client_module
from playscale.tracking.client import TrackingClient
from playscale.tracking.mlflow_tracker import MlflowExperiment, point_name
from playscale.tracking.pyfunc_agent import STATE, ServedAgent, _load_pyfunc
from playscale.tracking.registry import registered_name
from playscale.tracking.tracker import RegisteredAgent

POINT = Point(game="recall", method="bc", run="bc-lstm-8k-s0", seed=0, size="8k", flops=3e10, params=8e3, samples=900)


def agent(**values):
    given = {"point": POINT, "study": "toy", "aliases": ("best-loss",), "about": "Toys.", "card": "# A toy", "tags": {}}
    return RegisteredAgent(**{**given, **values})


def save(folder, seed, core="lstm"):
    torch.manual_seed(seed)
    policy = build_policy(config_for_size(get_game("recall"), "8k" if core == "lstm" else "30k", core)).eval()
    save_checkpoint(folder, policy, {"point": {}})
    return policy


@pytest.fixture
def store(registered, tmp_path, monkeypatch):
    """The URI of a store with one point and its checkpoint."""
    uri = f"sqlite:///{tmp_path}/m.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", uri)
    save(tmp_path / "c", 3)
    experiment = MlflowExperiment("toy", uri, artifacts=(tmp_path / "artifacts").as_uri())
    experiment.log_point(POINT).log_artifacts(tmp_path / "c", "checkpoint")
    return uri


def versions(uri):
    client = MlflowExperiment("toy", uri).client
    return sorted(client.search_model_versions("name = 'playscale.toy'"), key=lambda one: one.creation_timestamp)


def test_agent_is_registered_once_and_loaded_by_its_alias(store, tmp_path):
    experiment = MlflowExperiment("toy", store)
    experiment.register(agent())
    experiment.register(agent(aliases=("best-loss", "best-return"), card="# After more episodes", tags={"return": "7"}))
    (version,) = versions(store)
    (run,) = experiment.runs("point")
    assert version.source == f"runs:/{run.info.run_id}/checkpoint"
    assert version.description.startswith("# After more episodes")
    assert version.tags["return"] == "7"
    stored = {file.path: file.file_size for file in experiment.client.list_artifacts(run.info.run_id, "checkpoint")}
    assert sorted(stored) == [f"checkpoint/{name}" for name in ("MLmodel", "checkpoint.json", "policy.safetensors")]
    assert int(version.tags["stored_bytes"]) == sum(stored.values()) - stored["checkpoint/MLmodel"]
    policy, checkpoint = load_policy("models:/playscale.toy@best-return")
    assert checkpoint.config.game == "recall"
    original = load_policy(tmp_path / "c")[0].state_dict()
    assert all(torch.equal(value, original[name]) for name, value in policy.state_dict().items())


def test_weights_of_another_training_are_another_version(store, tmp_path):
    experiment = MlflowExperiment("toy", store)
    experiment.register(agent())
    save(tmp_path / "c", 4)
    experiment.log_point(POINT).log_artifacts(tmp_path / "c", "checkpoint")
    experiment.register(agent())
    old, new = versions(store)
    assert "trained again" in old.tags["replaced"]
    assert experiment.client.get_model_version_by_alias("playscale.toy", "best-loss").version == new.version


def test_what_cannot_be_registered_is_named_and_stops_nothing(store, tmp_path, caplog):
    experiment = MlflowExperiment("toy", store)
    for point in (Point(**{**vars(POINT), "run": "other"}), Point(**{**vars(POINT), "flops": 1e11})):
        if point.run == POINT.run:
            experiment.log_point(point)
        experiment.register(agent(point=point))
    assert "no such point" in caplog.text
    assert "no checkpoint is among its artifacts" in caplog.text
    for uri in ("models:/playscale.toy@best-loss", "models:/playscale.toy/7"):
        with pytest.raises(ValueError, match="has no such agent; set MLFLOW_TRACKING_URI"):
            load_policy(uri)
    with pytest.raises(ValueError, match="models:/NAME@ALIAS"):
        load_policy("models:/playscale.toy")


def test_registered_when_the_server_is_back(store, tmp_path, monkeypatch):
    """The entries wait in the queue's file while the server is down, and are delivered by another process."""
    monkeypatch.setattr(client_module, "is_server", lambda uri: True)
    client = TrackingClient("toy", store)

    def down(self, **options):
        raise ConnectionError("refused")

    with monkeypatch.context() as patch:
        patch.setenv(client_module.WAIT, "0")
        patch.setattr(TrackingClient, "connect", down)
        with client.open(tmp_path / "fit.spool") as experiment:
            experiment.register(agent(aliases=("best-return",)))
    assert versions(store) == []
    assert client.deliver([tmp_path / "fit.spool"]) == 1
    assert versions(store)[0].run_id == MlflowExperiment("toy", store).find("point", point_name(POINT)).id


def test_names_are_those_that_mlflow_takes():
    assert registered_name("nld-aa_1.5") == "playscale.nld-aa_1.5"
    assert registered_name("a/b:c d") == "playscale.a-b-c-d"


@pytest.mark.parametrize("core", ["lstm", "transformer"])
def test_predicted_actions_are_those_of_the_policy(registered, tmp_path, core):
    """Two games of six steps, the second game anew at step three, against one unroll of the policy."""
    policy, game = save(tmp_path / "c", 5, core), get_game("recall")
    served, rng = _load_pyfunc(str(tmp_path / "c")), np.random.default_rng(0)
    seen = {name: rng.integers(0, 2, (6, 2, *one.shape)).astype(one.dtype) for name, one in game.columns.items()}
    done = np.zeros((6, 2), bool)
    done[0], done[3, 1] = True, True
    out, actions, logits = {}, [np.full(2, game.num_actions)], []
    for t in range(6):
        given = {**{name: array[t] for name, array in seen.items()}, **out, **({"done": done[t]} if t else {})}
        out = served.predict(given, params={"temperature": 0.0})
        actions.append(out["action"])
        logits.append(out["logits"])
    batch = {name: torch.from_numpy(array) for name, array in seen.items()}
    batch |= {"prev_action": torch.from_numpy(np.stack(actions[:-1])), "done": torch.from_numpy(done)}
    with torch.inference_mode():
        expected = policy(batch, policy.initial_state(2)).logits
    assert np.allclose(np.stack(logits), expected.numpy(), atol=1e-5)
    assert np.array_equal(np.stack(actions[1:]), expected.argmax(-1).numpy())
    again = [served.predict(given, params={"temperature": 1.0, "seed": 1})["action"].tolist() for _ in range(2)]
    assert again[0] == again[1]


def test_observations_that_do_not_fit_are_named(registered, tmp_path):
    served = ServedAgent(save(tmp_path / "c", 5))
    columns = get_game("recall").columns
    whole = {name: np.zeros((2, *one.shape), one.dtype) for name, one in columns.items()}
    first = next(iter(columns))
    with pytest.raises(ValueError, match=f"{first} is missing"):
        served.predict({name: array for name, array in whole.items() if name != first} | {"prev_action": [0, 0]})
    with pytest.raises(ValueError, match=f"{STATE}hidden has the shape"):
        served.predict({**whole, f"{STATE}hidden": np.zeros((1, 1, 1))})


@pytest.mark.slow
def test_mlflow_loads_it_by_its_loader_module(store):
    """Slow: importing mlflow.pyfunc takes some seconds."""
    import mlflow.pyfunc

    MlflowExperiment("toy", store).register(agent(aliases=("best-return",)))
    loaded = mlflow.pyfunc.load_model("models:/playscale.toy@best-return")
    columns = get_game("recall").columns
    seen = {name: np.zeros((2, *one.shape), one.dtype) for name, one in columns.items()}
    out = loaded.predict(seen)
    assert out["action"].shape == (2,)
    assert {name.partition(".")[0] for name in out} == {"action", "prev_action", "logits", "state"}
    first, second = (loaded.predict({**seen, **out}, params={"seed": 3, "temperature": 2.0}) for _ in range(2))
    assert np.array_equal(first["action"], second["action"])
