"""Jobs that meet what a cluster has in store, played on a real one. See `stage`, `play` and `record`."""
