"""The check component."""
