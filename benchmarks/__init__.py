"""The service beside its peers: each benchmark prints JSON lines, all in one run."""
