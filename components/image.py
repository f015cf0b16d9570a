"""The image that every component runs in. `playscale compile --image` and the environment variable override it."""

import os

from playscale import __version__

IMAGE = os.environ.get("PLAYSCALE_IMAGE", f"playscale/playscale:{__version__}")
