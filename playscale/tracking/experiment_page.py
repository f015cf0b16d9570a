"""The page of a study's experiment in MLflow: under which heading it opens, and its description."""

from __future__ import annotations

import json
from collections.abc import Mapping
from urllib.parse import quote

from mlflow.utils.mlflow_tags import MLFLOW_RUN_NOTE

EXPERIMENT_KIND = "mlflow.experimentKind"  # MLflow's web pages have the name and its values, its Python code has not
MODEL_TRAINING = "custom_model_development"
GUESSED = ("custom_model_development_inferred", "genai_development_inferred", "no_inferred_type", "")
"""Kinds that MLflow's pages have chosen by themselves; another one was chosen by somebody."""
ABOUT = "A run per model, under it one per budget: a row of the points table."
POINTS = "tags.\"playscale.kind\" = 'point'"
"""The filter of MLflow's list of runs that shows the points."""
TRAINING_PAGES = "workflowType=machine_learning"
"""Of an address: otherwise a browser that is new to MLflow shows its pages for GenAI, for experiments of every kind."""
VIEW = "playscale.points"
VIEW_TAG = f"mlflow.sharedViewState.{VIEW}"  # where MLflow's pages look for the view that an address names
SHOWN_METRICS = ("dev_loss", "params", "return_mean", "return_se", "samples")
SHOWN_OTHERS = ("params.`budget_flops`", "params.`method`", "params.`seed`", "tags.`split`")
POINTS_VIEW = json.dumps(
    {
        "searchFilter": POINTS,
        "orderByKey": "metrics.`flops`",  # sorted by a metric, runs are not folded under their parents
        "orderByAsc": True,
        "selectedColumns": [*(f"metrics.`{name}`" for name in SHOWN_METRICS), *SHOWN_OTHERS],
    }
)
"""The view of MLflow's list of runs that is the points table; by itself the list shows no metric."""
NEW = {EXPERIMENT_KIND: MODEL_TRAINING, MLFLOW_RUN_NOTE: ABOUT, VIEW_TAG: POINTS_VIEW}
"""The tags of a new experiment."""


def tags_to_set(tags: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a new experiment that one lacks: not what somebody has chosen or written there."""
    kind = {EXPERIMENT_KIND: MODEL_TRAINING} if tags.get(EXPERIMENT_KIND, "") in GUESSED else {}
    view = {} if tags.get(VIEW_TAG) == POINTS_VIEW else {VIEW_TAG: POINTS_VIEW}
    return kind | view | ({} if tags.get(MLFLOW_RUN_NOTE) else {MLFLOW_RUN_NOTE: ABOUT})


def note_to_set(tags: Mapping[str, str], experiment: str, run: str, file: str) -> dict[str, str]:
    """Return the tag of a description that links a file of a run; none where somebody wrote another description.

    Args:
        tags: The experiment's tags.
        experiment: Its id.
        run: The id of the run.
        file: The file among the run's artifacts.
    """
    before = tags.get(MLFLOW_RUN_NOTE, "")
    runs = f"#/experiments/{experiment}/runs"
    note = (
        f"{ABOUT}\n\n"
        f"* [Report]({runs}/{run}/artifacts/{quote(file)}?{TRAINING_PAGES}): laws, forecasts and figures\n"
        f"* [The points table]({runs}?{TRAINING_PAGES}&viewStateShareKey={VIEW}): the filter `{POINTS}`"
    )
    ours = not before or before.startswith(ABOUT)
    return {MLFLOW_RUN_NOTE: note} if ours and note != before else {}
