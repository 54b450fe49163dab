"""The plugin inside QGIS: forms, jobs, layers and the way to the engine. No torch, no rasterio."""
