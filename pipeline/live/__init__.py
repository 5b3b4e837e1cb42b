"""The endless run on one machine: what it reads, keeps, ranks, writes and tells."""
