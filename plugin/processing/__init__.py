"""Processing provider and algorithms: the same requests as the dock's, for the toolbox, batch, models and scripts."""
