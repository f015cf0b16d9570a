"""Run the command line as `python -m playscale.cli`."""

from playscale.cli.app import main

main()
