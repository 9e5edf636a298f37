"""One of the processes of the torchmetrics test: `python -m hosts.two_processes RANK FILE`; prints what it computed."""

from __future__ import annotations

import json
import sys

from hosts.torchvision_ops import declare

# levels of each update, of each process: uneven batches, then a process without any
CASES = {"uneven": [[[0.1, 0.2, 0.3], [0.4]], [[0.9, 0.8]]], "none on one": [[[0.5, 0.25]], []]}


def main(rank: int, meeting: str) -> None:
    declare()
    import torch

    from qsit_metric.integrations.torchmetrics import QSiTScore
    from stand_in import Brightness, pictures

    torch.distributed.init_process_group("gloo", init_method=f"file://{meeting}", rank=rank, world_size=2)
    found = {}
    for name, batches in CASES.items():
        for reduction in ("mean", "sum", "none"):
            metric = QSiTScore(Brightness(), reduction)
            for levels in batches[rank]:
                metric.update(pictures(*levels))
            found[f"{name}, {reduction}"] = metric.compute().tolist()
    torch.distributed.destroy_process_group()
    sys.stdout.write(json.dumps(found))


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
