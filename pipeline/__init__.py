"""Wiring and the outside world: options, sources, tables, assembly, command line."""
