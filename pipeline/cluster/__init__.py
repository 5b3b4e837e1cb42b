"""A Flink cluster on one machine, without Docker: jars, processes, health."""
