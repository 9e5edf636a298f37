"""The figures, one module each: plain rows -> a matplotlib figure; `canvas.save_png` writes it."""
