"""A quality reward in a small GRPO loop: a toy generator learns how much to blur and to add noise.

    python examples/reward.py                         # prints a row every fifth step; --figure FILE draws the run

The generator takes a photograph and spoils it: the strengths of blur and noise are drawn from a Gaussian policy whose
means are learned. Each step draws groups of pictures, scores them, and moves the means along the advantage that a
picture has within its group, as GRPO does. PSNR against the photograph, which the policy never sees, is printed beside
the reward: it must rise, too, or the reward was pleased without the pictures getting better.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageFilter
from rich.console import Console

from qsit_metric.rewards import Reward

GOLDEN = Path(__file__).resolve().parent.parent / "tests" / "golden" / "images"
PHOTOGRAPHS = ("landscape_451x300.png", "square_512.png")
SIDE = 192
GROUP = 8  # pictures of one photograph in a step
SPREAD = 0.35  # standard deviation of the policy, in log-strength
RATE = 0.25


def generate(photograph: Image.Image, strengths: torch.Tensor, seed: int) -> Image.Image:
    """Spoil a photograph: blur of exp(strengths[0]) pixels, noise of exp(strengths[1]) grey levels."""
    blur, noise = strengths.exp().tolist()
    blurred = np.asarray(photograph.filter(ImageFilter.GaussianBlur(blur)), dtype=np.float32)
    grain = np.random.default_rng(seed).normal(0, noise, blurred.shape)
    return Image.fromarray(np.clip(blurred + grain, 0, 255).astype(np.uint8))


def psnr(image: Image.Image, reference: Image.Image) -> float:
    """Peak signal-to-noise ratio in dB, higher is closer."""
    error = np.square(np.asarray(image, np.float32) - np.asarray(reference, np.float32)).mean()
    return 10 * math.log10(255**2 / max(float(error), 1e-6))


def run(reward: Reward, steps: int, seed: int = 0) -> list[tuple[float, float]]:
    """Learn for some steps.

    Returns:
        Mean reward and mean PSNR of each step's pictures.
    """
    torch.manual_seed(seed)
    photographs = [Image.open(GOLDEN / name).convert("RGB").resize((SIDE, SIDE)) for name in PHOTOGRAPHS]
    means = torch.tensor([math.log(2.5), math.log(30.0)], requires_grad=True)
    history = []
    for step in range(steps):
        policy = torch.distributions.Normal(means, SPREAD)
        drawn = policy.sample((len(photographs), GROUP))
        made = [[generate(one, s, step) for s in group] for one, group in zip(photographs, drawn, strict=True)]
        rewards = torch.tensor([reward(group) for group in made])
        advantages = (rewards - rewards.mean(1, keepdim=True)) / (rewards.std(1, keepdim=True) + 1e-4)
        loss = -(advantages[..., None] * policy.log_prob(drawn)).mean()
        (gradient,) = torch.autograd.grad(loss, means)
        with torch.no_grad():
            means -= RATE * SPREAD * gradient
        closeness = [psnr(one, photo) for photo, group in zip(photographs, made, strict=True) for one in group]
        history.append((float(rewards.mean()), float(np.mean(closeness))))
    return history


def draw(history: list[tuple[float, float]], path: Path) -> None:
    """Draw reward and PSNR over the steps."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, left = plt.subplots(figsize=(6, 3.2), layout="constrained")
    right = left.twinx()
    rewards, closeness = zip(*history, strict=True)
    left.plot(rewards, color="C0", label="reward (0 to 1)")
    right.plot(closeness, color="C1", linestyle="--", label="PSNR in dB, never seen by the policy")
    left.set(xlabel="step", ylabel="reward")
    right.set_ylabel("PSNR in dB")
    figure.legend(loc="outside upper center", ncols=2, frameon=False)
    figure.savefig(path, dpi=130)


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--model", default="q-sit-nano")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--figure", type=Path)
    given = parser.parse_args()
    history = run(Reward(given.model), given.steps)
    for step in [*range(0, given.steps, 5), given.steps - 1]:
        Console().print(f"step {step:3}  reward {history[step][0]:.3f}  PSNR {history[step][1]:.2f} dB")
    if given.figure:
        draw(history, given.figure)


if __name__ == "__main__":
    main()
