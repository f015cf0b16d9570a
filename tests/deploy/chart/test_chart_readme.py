"""The README's table is what values.yaml says."""

import subprocess
import sys

import pytest
import yaml
from rendered import CHART

SCRIPT = CHART.parent / "readme.py"


def test_the_table_is_fresh():
    done = subprocess.run([sys.executable, SCRIPT, "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_a_value_without_a_comment_is_named():
    sys.path.insert(0, str(CHART.parent))
    from readme import rows

    text = "# what it is\na: 1\nb:\n  c: 2\n"
    with pytest.raises(ValueError, match=r"line 4: b.c has no comment"):
        list(rows(yaml.compose(text, yaml.SafeLoader), text.splitlines()))
