"""The judge of LLDescribe: a language model rates descriptions against what experts wrote about the same image.

    from benchmarks.judge import EndpointJudge, judge_run

    judge = EndpointJudge("http://localhost:8000/v1", "some-model", api_key_env="SOME_KEY")
    judge_run(judge, Results.read(described), {"a.jpg": "Slightly blurred."}, Path("out/judged"))

Protocol: Q-Bench (arXiv 2309.14181), task A2, which Table VI of the Q-SiT paper reports: completeness, precision and
relevance, each 0, 1 or 2, in five rounds; P0, P1, P2 are frequencies over all ratings, a score is P1 + 2 P2. The golden
texts of LLDescribe are not published, so a file with them is the user's.
"""

from .judges import EndpointJudge, Judge, LocalJudge, Unjudged
from .run import ROUNDS, judge_run, messages, rating

__all__ = [
    "ROUNDS",
    "EndpointJudge",
    "Judge",
    "LocalJudge",
    "Unjudged",
    "judge_run",
    "messages",
    "rating",
]
