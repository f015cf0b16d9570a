"""Write charts/playscale/README.md: every value with its default, described by the comment above it in values.yaml.

python charts/readme.py            write the file
python charts/readme.py --check    exit with 1 when the file is out of date
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml

CHART = Path(__file__).parent / "playscale"
MARK = "<!-- below: python charts/readme.py -->\n"
TABLE = "\n| key | default | meaning |\n|---|---|---|\n"


def rows(node: yaml.MappingNode, lines: list[str], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield (key, default as JSON, description) of every value that has a comment of its own.

    Raises ValueError for a value with neither a comment nor keys below it.
    """
    for key, value in node.value:
        name = prefix + key.value
        comment = _comment(lines, key.start_mark.line)
        if prefix == "" and isinstance(value, yaml.MappingNode):
            comment = ""  # at the top level a comment describes the group
        if comment:
            yield name, json.dumps(yaml.safe_load(yaml.serialize(value))), comment
        elif isinstance(value, yaml.MappingNode) and value.value:
            yield from rows(value, lines, name + ".")
        else:
            raise ValueError(f"values.yaml, line {key.start_mark.line + 1}: {name} has no comment above it")


def _comment(lines: list[str], line: int) -> str:
    """Return the comment in the line above, without the hash."""
    above = lines[line - 1].strip() if line else ""
    return above.removeprefix("#").strip() if above.startswith("#") else ""


def readme(path: Path) -> str:
    """Return the current README text; the part above the mark is kept."""
    text = (CHART / "values.yaml").read_text(encoding="utf-8")
    head = path.read_text(encoding="utf-8").partition(MARK)[0]
    table = rows(yaml.compose(text, yaml.SafeLoader), text.splitlines())
    return head + MARK + TABLE + "".join(f"| `{key}` | `{default}` | {what} |\n" for key, default, what in table)


def main() -> int:
    path = CHART / "README.md"
    if sys.argv[1:] == ["--check"]:
        if path.read_text(encoding="utf-8") == readme(path):
            return 0
        sys.stderr.write(f"{path} is stale: run python charts/readme.py\n")
        return 1
    path.write_text(readme(path), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
