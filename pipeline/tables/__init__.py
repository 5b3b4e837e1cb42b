"""The output tables as files: written whole, published by renames, read back."""
