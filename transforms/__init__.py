"""Beam composites: one verb-named PTransform per file, a thin shell around `models`."""
