"""Datasets: label tables and radiographs of an archive become one folder that every later step reads."""
