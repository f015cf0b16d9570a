"""Tracking of runs in MLflow, and Prometheus metrics."""

import os
import tempfile
from pathlib import Path

try:
    Path.home()
except RuntimeError:  # a container's user without an entry in /etc/passwd: MLflow could not be imported
    os.environ["HOME"] = tempfile.gettempdir()
