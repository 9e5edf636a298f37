#!/usr/bin/env bash
# Install the built wheel into a clean environment, away from the checkout, and use it as a newcomer would.
set -euo pipefail
python=${1:-python3}
root=$(cd "$(dirname "$0")/.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
"$python" -m venv "$work/venv"
"$work/venv/bin/python" -m pip install -qq -c "$root/constraints.txt" "$root"/dist/*.whl
cp -r "$root/tests/golden" "$work/golden"
cd "$work"
unset PYTHONPATH
venv/bin/qsit --version
venv/bin/qsit doctor --model golden/tied
venv/bin/qsit score golden/images/square_512.png golden/images/tiny_7x5.png --model golden/tied --format csv
HF_HUB_OFFLINE=1 venv/bin/qsit score golden/images/square_512.png --model q-sit-nano
venv/bin/qsit doctor
venv/bin/python - <<'PY'
import json
from pathlib import Path

import qsit_metric
from qsit_metric import QSiT

assert "site-packages" in qsit_metric.__file__, qsit_metric.__file__
assert (Path(qsit_metric.__file__).parent / "py.typed").is_file()
metric = QSiT("golden/tied")
want = json.loads(Path("golden/tied.expected.json").read_text())["images"]["square_512.png"]
score = metric.score("golden/images/square_512.png")
assert abs(score - want["score15"]) < 1e-4, score
question, ids = next(iter(want["answers"].items()))
assert list(metric.ask("golden/images/square_512.png", question, max_new_tokens=12).tokens) == ids
print("the wheel scores and answers as the golden set says:", repr(score))
PY
