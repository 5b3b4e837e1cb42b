"""Runs on Dataflow, and the template that starts them."""
