"""The whole recipe at a size that two CPU cores finish in minutes, on drawn pictures: `python -m train tiny`."""
