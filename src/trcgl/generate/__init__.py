"""The diffusion half of TRCGL-Net: generate radiographs of rare findings."""
