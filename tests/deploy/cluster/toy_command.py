"""The command line in a process that knows the toy game."""

import os
import subprocess
import sys

import toy_game

HIDDEN = ("MLFLOW_TRACKING_URI", "MLFLOW_RUN_ID", "MLFLOW_EXPERIMENT_ID", "PLAYSCALE_METRICS_PORT")


class ToyCommand:
    """`popen` and `run` start `playscale ...` in `folder`, with these settings in the environment."""

    def __init__(self, folder, **environment):
        self.folder = folder
        known = {key: value for key, value in os.environ.items() if key not in HIDDEN}
        self.environment = known | {"PYTHONPATH": toy_game.python_path(folder)} | environment

    def popen(self, *arguments, **environment):
        """What it says on stderr is in folder/stderr."""
        with (self.folder / "stderr").open("ab") as stderr:
            return subprocess.Popen(
                [sys.executable, "-m", "playscale.cli", *map(str, arguments)],
                cwd=self.folder,
                env=self.environment | environment,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
            )

    def run(self, *arguments, **environment):
        """Its exit code."""
        return self.popen(*arguments, **environment).wait(600)

    @property
    def said(self):
        return (self.folder / "stderr").read_text()
