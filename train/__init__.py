"""The joint-teaching recipe of Q-SiT: data, mixture, loop and balance (arXiv 2503.09197, Sec. III and Algorithm 1).

A program of the repository, not part of the wheel: `python -m train --help` from a checkout, or
`accelerate launch -m train run RECIPE` on several devices.
"""
