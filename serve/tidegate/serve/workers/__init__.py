"""Several processes on one port: a supervisor that serves nothing, and workers that serve."""
