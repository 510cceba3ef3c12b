"""Reads image data sets from their original files, one file per format."""
