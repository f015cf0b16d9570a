"""The forecast pipeline: register forecasts of a study's laws, train and evaluate the agents, score the forecasts.

    forecast > runs > forecast (scores)

A run that fails for good does not keep the score from coming: it voids the forecast where its training diverged, and
leaves it open otherwise. As in the study pipeline, what ignores the failures before it follows one pipeline alone, and
takes no output of another step: the second call finds the forecasts again by what they forecast and from which points.
"""

from typing import TYPE_CHECKING

from kfp import dsl
from kfp.dsl.base_component import BaseComponent

from playscale_components.forecast.component import forecast

from .study_pipeline import ready_with, runs_pipeline

if TYPE_CHECKING:
    from .pods import Pods


def forecast_pipeline(pods: "Pods | None" = None) -> BaseComponent:
    """Return the pipeline, with pod settings for a cluster (None: without, for one machine)."""
    ready = ready_with(pods)
    runs = runs_pipeline(ready, together=1, pods=pods)

    @dsl.pipeline(
        name="playscale-forecast",
        description="Register what a study's laws forecast of a budget, train the agents, and score the forecasts.",
    )
    def forecast_agents(
        spec: str,
        out: str,
        budget: str,
        targets: str = "",
        method: str = "",
        seeds: str = "",
        episodes: str = "",
        include_forecasts: bool = False,
        tracking_uri: str = "",
        gpus: str = str(pods.train.gpus if pods else 0),
    ) -> None:
        """A study's spec (YAML text), its directory, the budget in training FLOPs, what is forecast (loss, return), by
        which method, with which seeds and how many episodes ("": those of the study, and enough episodes), whether the
        agents of earlier forecasts are fitted, its MLflow server, and the GPUs of each training pod.
        """
        asked = {
            "spec": spec, "out": out, "budget": budget, "targets": targets, "method": method, "seeds": seeds,
            "episodes": episodes, "include_forecasts": include_forecasts, "tracking_uri": tracking_uri,
        }  # fmt: skip
        made = ready(forecast(**asked, trained=False), "forecast").outputs
        trained = runs(spec=spec, names=made["runs"], out=made["folder"], tracking_uri=tracking_uri, gpus=gpus)
        ready(forecast(**asked, trained=True), "forecast").after(trained).ignore_upstream_failure()

    return forecast_agents
