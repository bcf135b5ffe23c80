"""Where radiographs and labels come in."""
