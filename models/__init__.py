"""Pure core: records, state, value model, encoder, ranking. Imports neither Beam nor torch at the top."""
