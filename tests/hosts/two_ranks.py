"""One rank of lmms-eval's evaluator, as `accelerate launch` starts it: `python -m hosts.two_ranks`; prints what it did."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace

from hosts.torchvision_ops import declare


def main() -> None:
    declare()
    import datasets
    from lmms_eval.evaluator import simple_evaluate
    from lmms_eval.tasks import TaskManager
    from lmms_eval.tasks.qbench import utils as qbench

    from hosts.test_lmms_eval import FILES, MODEL, ROWS
    from qsit_metric.metric import View

    pictures = [{**row, "image": str(file)} for row, file in zip(ROWS, FILES, strict=True)]
    small = datasets.Dataset.from_list(pictures).cast_column("image", datasets.Image())
    datasets.load_dataset = lambda *_, **__: datasets.DatasetDict({"dev": small})
    asked = []
    ask = View.ask
    View.ask = lambda self, question, **settings: asked.append(question) or ask(self, question, **settings)
    tasks = TaskManager("ERROR", str(Path(qbench.__file__).parent), include_defaults=False, model_name="qsit")
    args = SimpleNamespace(process_with_media=False, agentic_trace_mode="basic")
    found = simple_evaluate("qsit", f"pretrained={MODEL}", tasks=["qbench_dev"], batch_size="1", device="cpu", task_manager=tasks,
                            verbosity="ERROR", cli_args=args, process_docs_parallel=1, gen_kwargs="max_new_tokens=3")  # fmt: skip
    samples = len(found["samples"]["qbench_dev"]) if found else None
    sys.stdout.write("\n" + json.dumps({"asked": len(set(asked)), "samples": samples}) + "\n")


if __name__ == "__main__":
    main()
