"""The verbs of the command line, a file for each room; playscale/cli.py wires them together."""
