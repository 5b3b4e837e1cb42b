"""Ranking: from feedback to an item index, and from a user and the index to a list with reasons.

Read `log.py` (what the index learns from), `index.py` (what is learned), `sources.py` (what
each source of candidates says), `fusion.py` (how they are weighed), then `ranker.py`.
"""
