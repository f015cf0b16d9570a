"""The fit component."""
