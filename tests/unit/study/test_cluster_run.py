"""How much of a study on a cluster is done."""

from playscale.study.cluster_run import ClusterProgress, ClusterStep, StepPod, forecast_parts, study_parts


def step(title, state, reason=""):
    component, _, run = title.partition(" ")
    pods = (StepPod("pod", state, reason),) if reason else ()
    return ClusterStep(component, run, state, title, pods)


BEGUN = (
    *(step(name, "done") for name in ("collect", "prepare", "plan", "train a")),
    step("train b", "running"),
    step("train c", "waiting", "Unschedulable: 1 Insufficient cpu"),
    step("evaluate a", "running"),
)


def test_summary_names_what_is_done_what_runs_and_what_waits():
    assert ClusterProgress((), study_parts(3), 0.0).summary == "waits for Kubeflow"
    assert ClusterProgress(BEGUN, study_parts(3), 0.0).summary == (
        "collect, prepare, plan done; train 1 of 3, evaluate 0 of 3; now train b, evaluate a; "
        "train c waits: Unschedulable: 1 Insufficient cpu"
    )


def test_runs_of_one_pod_count_each_and_are_all_named():
    steps = (step("train a,b", "done"), step("train c,d", "running"), step("evaluate a,b", "waiting", "Unschedulable"))
    assert ClusterProgress(steps, study_parts(4), 0.0).summary == (
        "train 2 of 4, evaluate 0 of 4; now train c, d; evaluate a, b waits: Unschedulable"
    )


def test_fraction_counts_the_steps_and_never_falls():
    done = ClusterProgress(BEGUN, study_parts(3), 0.0).fraction
    assert done == 4 / 11
    assert ClusterProgress(BEGUN[:2], study_parts(3), 0.0, least=done).fraction == done
    assert ClusterProgress(BEGUN, study_parts(2), 0.0).fraction > done


def test_fraction_of_a_finished_study_is_one():
    whole = ["collect", "prepare", "plan", "plan-taught", "fit"]
    names = [*whole, *(f"{name} {run}" for name in ("train", "evaluate") for run in ("a", "references"))]
    progress = ClusterProgress([step(name, "done") for name in names], study_parts(1), 0.0)
    assert progress.fraction == 1.0
    assert {part.name: (part.done, part.total) for part in progress.parts} == dict.fromkeys(
        ("collect", "prepare", "plan", "train", "evaluate", "references", "fit"), (1, 1)
    )


def test_a_forecast_has_parts_of_its_own():
    steps = [step(name, "done") for name in ("forecast", "train a", "train b", "evaluate a")]
    assert ClusterProgress(steps, forecast_parts(2), 0.0).fraction == 4 / 6
    assert ClusterProgress(steps, forecast_parts(2), 0.0).summary == "forecast done; train 2 of 2, evaluate 1 of 2"
    ended = [*steps, step("evaluate b", "done"), step("score", "done")]
    assert ClusterProgress(ended, forecast_parts(2), 0.0).fraction == 1
