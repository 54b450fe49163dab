"""The way to the engine: a channel, the client that supervises it, a blocking run, and the engine's own Python."""
