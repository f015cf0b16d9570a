"""The command line: one module for each group of commands; app.py joins them."""

from playscale.cli.app import main

__all__ = ["main"]
