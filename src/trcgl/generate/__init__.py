"""The diffusion half of TRCGL-Net: draw radiographs of rare findings."""
