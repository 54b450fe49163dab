"""Who draws the tiles of a job: this process, workers on this machine, or those of a Dask scheduler."""
