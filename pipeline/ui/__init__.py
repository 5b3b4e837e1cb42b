"""`livelist ui`: a read-only page over the published tables of a run, on this machine."""
