"""Resumable runs of one model over one set, shared by as many processes as are started.

    from benchmarks.runs import Results, question_run, score_run

    score_run(metric, read_iqa("livec", "data/livec"), Path("out/q-sit-mini/livec"))
    Results.read(Path("out/q-sit-mini/livec")).rows

A run is a folder: `run.json` says what is run, `part-00000.jsonl` and so on have the results as they came, one file for
each process, and `results.jsonl` has them in the set's order once all are there. Start the same program with
`accelerate launch` and each process takes its share; kill it and start it again, with as many processes as you like.
"""

from .results import Pace, Results, awaited
from .run import Process, bar
from .tasks import describe_run, question_run, score_run

__all__ = ["Pace", "Process", "Results", "awaited", "bar", "describe_run", "question_run", "score_run"]
