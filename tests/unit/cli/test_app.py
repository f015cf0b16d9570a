"""The command line as a whole."""

from __future__ import annotations

import os
import subprocess
import sys


def test_figures_need_no_backend_of_a_notebook() -> None:
    """The environment of a shell command in a notebook, whose kernel lives in an environment of its own."""
    code = "from playscale.cli.app import main; import sys; sys.argv = ['playscale', '--version']; sys.exit = print\n"
    code += "main(); import playscale.report.figures"
    given = os.environ | {"MPLBACKEND": "module://no_such_module.backend"}
    done = subprocess.run([sys.executable, "-c", code], env=given, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
