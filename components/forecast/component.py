"""KFP component: register what the laws of a study forecast of a budget, or score it."""

from typing import NamedTuple

from kfp import dsl

from playscale_components.image import IMAGE


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def forecast(
    spec: str,
    out: str,
    budget: str,
    targets: str,
    method: str,
    seeds: str,
    episodes: str,
    include_forecasts: bool,
    tracking_uri: str,
    trained: bool,
) -> NamedTuple("Forecasts", [("folder", str), ("runs", list)]):
    """Return the directory of the agents and the runs to train; with `trained`, score what these runs reached."""
    from playscale.study import forecast_steps

    asked = {
        "budget": budget,
        "targets": targets,
        "method": method,
        "seeds": seeds,
        "episodes": episodes,
        "include_forecasts": include_forecasts,
    }
    step = forecast_steps.score if trained else forecast_steps.forecast
    return step(spec, out, asked, tracking_uri)
