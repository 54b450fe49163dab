"""Public models on this machine: offered, fetched, imported and removed; the only room that asks a network."""
