"""The endless run on a Flink cluster."""
