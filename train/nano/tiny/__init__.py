"""Algorithm 1 at a size that two CPU cores finish in minutes, on drawn pictures: `python -m train tiny`."""
