"""The image every component runs in. `playscale compile --image` and the environment variable override it."""

import os

IMAGE = os.environ.get("PLAYSCALE_IMAGE", "playscale/playscale:0.1.0")
