"""Inputs and displays that panels and the dock share: QGIS's own widgets, joined and labelled."""
