"""Scaling laws for game-playing agents. Importing the package imports none of its dependencies."""

__version__ = "0.1.0"
