"""Print the share of the covered lines that the first of some coverage files covers alone.

python coverage_share.py FIRST OTHER...
"""

import sys
from collections import Counter

from coverage import CoverageData


def covered_lines(path):
    """Return the (file, line) pairs of a coverage file."""
    data = CoverageData(path)
    data.read()
    return {(file, line) for file in data.measured_files() for line in data.lines(file)}


def main(first, *others):
    lines = covered_lines(first)
    missed = set().union(*map(covered_lines, others)) - lines
    for file, count in Counter(file for file, _ in missed).most_common(20):
        print(f"{count:5} lines of {file} are covered by the others alone")
    print(f"{first} covers {len(lines)} of {len(lines) + len(missed)} lines: {len(lines) / len(lines | missed):.1%}")


if __name__ == "__main__":
    main(*sys.argv[1:])
