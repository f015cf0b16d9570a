"""The compiled pipeline: every step in it, fanned out over runs, nothing cached, the report as an artifact."""

import pytest
import yaml


@pytest.fixture(scope="module")
def compiled(cli, tmp_path_factory):
    out = tmp_path_factory.mktemp("compiled")
    assert cli("compile", "--out", out, "--image", "registry.example.org/p:1", cwd=out).returncode == 0
    return next(iter(yaml.safe_load_all((out / "study.yaml").read_text())))


def test_every_step_runs_in_the_given_image(compiled):
    executors = compiled["deploymentSpec"]["executors"]
    assert {name.removeprefix("exec-").split("-")[0] for name in executors} == {
        "collect", "prepare", "plan", "train", "evaluate", "fit",
    }  # fmt: skip
    assert {executor["container"]["image"] for executor in executors.values()} == {"registry.example.org/p:1"}


def test_no_task_is_cached(compiled):
    groups = [compiled["root"]["dag"], *(c["dag"] for c in compiled["components"].values() if "dag" in c)]
    tasks = [
        task
        for group in groups
        for task in group["tasks"].values()
        if "executorLabel" in compiled["components"][task["componentRef"]["name"]]
    ]
    assert len(tasks) == 9
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks)


def test_train_and_evaluate_fan_out_over_the_planned_runs_and_then_over_those_taught_by_them(compiled):
    tasks = compiled["root"]["dag"]["tasks"]
    loops = [task for task in tasks.values() if "parameterIterator" in task]
    assert len(loops) == 2
    for loop, planned in zip(loops, ("plan", "plan-2"), strict=True):
        assert loop["parameterIterator"]["items"]["inputParameter"]
        assert planned in loop["dependentTasks"]
        inner = compiled["components"][loop["componentRef"]["name"]]["dag"]["tasks"]
        assert {name.split("-")[0] for name in inner} == {"train", "evaluate"}
    assert "for-loop-1" in tasks["plan-2"]["dependentTasks"]
    assert {"for-loop-1", "for-loop-2"} <= set(tasks["fit"]["dependentTasks"])


def test_fit_shows_metrics_and_the_report_and_no_corpus_is_an_artifact(compiled):
    outputs = {
        name: part.get("outputDefinitions", {}).get("artifacts", {}) for name, part in compiled["components"].items()
    }
    assert {name: set(artifacts) for name, artifacts in outputs.items() if artifacts} == {
        "comp-fit": {"metrics", "report"}
    }
