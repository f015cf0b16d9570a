"""The fault campaign: kills, damaged inputs and full disks, drawn from a seed.

    python -m tests.campaign [--seed S] [--minutes M] [--only kills|inputs|disk] [--case KIND:NUMBER]

commands.py   the commands under test, the inputs that they share, and their undisturbed runs
kills.py      a command is killed, once or several times, and run again
inputs.py     a command reads a damaged file
disk.py       a command fills its disk, and is run again with space
snapshot.py   the results in a directory, in a form in which two runs can be compared
processes.py  starting, finding and killing the processes of a command
warm.py       many short commands, each in a fork of one process that has imported everything

docs/reliability.md says what is promised, and holds the figures.
"""
