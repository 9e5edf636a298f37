#!/usr/bin/env bash
# Guess: building a model on torch's meta device allocates nothing and computes nothing, so it costs next to nothing; it
#   is how large checkpoints are loaded without drawing random weights first.
# What happens: nn.Linear on meta is as cheap as that. nn.Embedding on meta is not: its initial weights are drawn with
#   normal_, which has no kernel for meta and is worked out by Python references; the first one brings the compiler
#   (torch._dynamo) and sympy, about 800 modules, into the process.
# Versions: torch 2.13.0 (CPU), Python 3.11.
# Output seen:
#   torch 2.13.0+cpu
#   Linear on meta: torch._dynamo False, sympy False
#   Embedding without initial weights on meta: torch._dynamo False, sympy False
#   Embedding on meta: torch._dynamo True, sympy True, 822 new modules, 1.00 s
# Why it matters: a metric that scores one picture from the command line lives for a second and a half; a token embedding
#   built on meta is half of that. Whoever loads a quality model this way gives the embedding no initial weights.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"${PYTHON:-python3}" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -q --disable-pip-version-check torch==2.13.0 numpy
cat > "$work/look.py" <<'PY'
import sys
import time

import torch
from torch import nn


class Unset(nn.Embedding):
    def reset_parameters(self):
        pass


def look(name, make):
    before, start = set(sys.modules), time.perf_counter()
    with torch.device("meta"):
        make()
    new, seconds = set(sys.modules) - before, time.perf_counter() - start
    there = {package: package in sys.modules for package in ("torch._dynamo", "sympy")}
    told = ", ".join(f"{package} {found}" for package, found in there.items())
    print(f"{name} on meta: {told}" + (f", {len(new)} new modules, {seconds:.2f} s" if len(new) > 50 else ""))
    return any(there.values())


print("torch", torch.__version__)
linear = look("Linear", lambda: nn.Linear(3, 4))
unset = look("Embedding without initial weights", lambda: Unset(3, 4))
embedding = look("Embedding", lambda: nn.Embedding(3, 4))
sys.exit(0 if (linear, unset, embedding) == (False, False, True) else 1)
PY
"$work/venv/bin/python" "$work/look.py"
