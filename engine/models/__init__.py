"""Model families, the catalogue that lists them, and the loading of weights."""
