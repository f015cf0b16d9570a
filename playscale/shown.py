"""Results that show themselves: in a notebook as HTML tables, printed as the same tables in text."""

from __future__ import annotations

from typing import Any


class Shown:
    """Base of the results of the Python API. `playscale.cli.shown` knows the tables of each, those of the commands."""

    def _repr_html_(self) -> str:
        from playscale.cli.shown import as_html

        return as_html(self)

    def _repr_mimebundle_(self, **_: Any) -> dict[str, str]:
        """Give IPython the text, too, which it would otherwise take from a dataclass's own __repr__."""
        return {"text/html": self._repr_html_(), "text/plain": str(self)}

    def _repr_pretty_(self, printer: Any, cycle: bool) -> None:
        """Give IPython the text where it knows a printer of the class: of a list and a dict."""
        printer.text("..." if cycle else str(self))

    def __str__(self) -> str:
        from playscale.cli.shown import as_text

        return as_text(self)
