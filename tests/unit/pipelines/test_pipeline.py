"""The compiled pipeline: every step in it, fanned out over runs, nothing cached, the report as an artifact."""

import pytest
import yaml


@pytest.fixture(scope="module")
def out(cli, tmp_path_factory):
    folder = tmp_path_factory.mktemp("compiled")
    assert cli("compile", "--out", folder, "--image", "registry.example.org/p:1", cwd=folder).returncode == 0
    return folder


@pytest.fixture(scope="module")
def compiled(out):
    return next(iter(yaml.safe_load_all((out / "study.yaml").read_text())))


def test_every_step_runs_in_the_given_image(compiled):
    executors = compiled["deploymentSpec"]["executors"]
    assert {name.removeprefix("exec-").split("-")[0] for name in executors} == {
        "collect", "prepare", "plan", "train", "evaluate", "fit", "check",
    }  # fmt: skip
    assert {executor["container"]["image"] for executor in executors.values()} == {"registry.example.org/p:1"}


def dag(compiled, name):
    """The tasks of a pipeline within the pipeline."""
    return compiled["components"][name]["dag"]["tasks"]


def test_no_task_is_cached(compiled):
    groups = [compiled["root"]["dag"], *(c["dag"] for c in compiled["components"].values() if "dag" in c)]
    tasks = [
        task
        for group in groups
        for task in group["tasks"].values()
        if "executorLabel" in compiled["components"][task["componentRef"]["name"]]
    ]
    assert len(tasks) == 10
    assert not any(task["cachingOptions"].get("enableCache") for task in tasks)


def test_train_and_evaluate_fan_out_over_the_planned_runs_and_then_over_those_taught_by_them(compiled):
    assert compiled["root"]["dag"]["tasks"]["grid"]["dependentTasks"] == ["plan"]
    grid = dag(compiled, "comp-grid")
    taught = dag(compiled, grid["taught"]["componentRef"]["name"])
    assert grid["taught"]["dependentTasks"] == ["runs"]
    assert taught["runs"]["dependentTasks"] == ["plan"]
    for runs in (grid["runs"], taught["runs"]):
        ((_, loop),) = dag(compiled, runs["componentRef"]["name"]).items()
        assert loop["parameterIterator"]["items"]["inputParameter"]
        assert {name.split("-")[0] for name in dag(compiled, loop["componentRef"]["name"])} == {"train", "evaluate"}


def test_a_failed_run_keeps_neither_the_second_round_nor_the_fit_from_following(compiled):
    """Such a task is to follow one task that is no loop, and nothing may follow it: see the pipeline's module."""
    groups = [compiled["root"]["dag"], *(c["dag"] for c in compiled["components"].values() if "dag" in c)]
    ignoring = {}
    for tasks in (group["tasks"] for group in groups):
        for name, task in tasks.items():
            if task.get("triggerPolicy", {}).get("strategy") == "ALL_UPSTREAM_TASKS_COMPLETED":
                (before,) = task["dependentTasks"]
                assert "parameterIterator" not in tasks[before]
                assert not any(name in other.get("dependentTasks", ()) for other in tasks.values())
                ignoring[name] = before
    assert ignoring == {"taught": "runs", "fit": "grid"}


def test_the_state_of_the_pipeline_is_that_of_a_last_step_which_is_not_tried_again(compiled):
    check = compiled["root"]["dag"]["tasks"]["check"]
    assert check["dependentTasks"] == ["grid"]
    assert "maxRetryCount" not in check["retryPolicy"]


def test_the_forecast_pipeline_scores_also_after_a_failed_run_and_takes_nothing_of_another_step_for_it(out):
    """See its module: what ignores failures follows one pipeline, and nothing else."""
    tasks = next(iter(yaml.safe_load_all((out / "forecast.yaml").read_text())))["root"]["dag"]["tasks"]
    assert set(tasks) == {"forecast", "runs", "forecast-2"}
    assert tasks["runs"]["dependentTasks"] == ["forecast"]
    assert tasks["forecast-2"]["dependentTasks"] == ["runs"]
    assert tasks["forecast-2"]["triggerPolicy"] == {"strategy": "ALL_UPSTREAM_TASKS_COMPLETED"}
    given = tasks["forecast-2"]["inputs"]["parameters"]
    assert given.pop("trained") == {"runtimeValue": {"constant": True}}
    assert all(set(value) == {"componentInputParameter"} for value in given.values())


def test_fit_shows_metrics_and_the_report_and_no_corpus_is_an_artifact(compiled):
    outputs = {
        name: part.get("outputDefinitions", {}).get("artifacts", {}) for name, part in compiled["components"].items()
    }
    assert {name: set(artifacts) for name, artifacts in outputs.items() if artifacts} == {
        "comp-fit": {"metrics", "report"}
    }
