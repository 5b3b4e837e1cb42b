"""The flags of `livelist run`, in groups; their values; and the configs that they become."""
