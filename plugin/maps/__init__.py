"""The only files that touch layers, CRS objects and QgsProject."""
