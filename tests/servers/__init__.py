"""Real servers for tests, demos and benchmarks, on loopback, ended by the process that started them."""
