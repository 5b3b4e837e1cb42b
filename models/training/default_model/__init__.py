"""The recipe of the model that ships: English and Chinese feedback in one MiniLM, rounded to int8.

`python -m models.training.default_model.build` makes it, `python -m models.training.default_model.evaluate`
prints its table beside baselines.
"""
