"""Worker processes, forks of a process with all imports done, signals that end a command, the cores it may use."""
