"""The whole recipe at a size that two CPU cores finish in minutes, on pictures drawn by seed: `python -m train tiny`."""
