"""What drives an endless job and measures it: a simulated population, and figures from the tables."""
