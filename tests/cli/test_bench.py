"""``exchange bench``: real nodes, measured small; what is checked is that every figure is there and follows."""

from __future__ import annotations

import statistics
from typing import TYPE_CHECKING

import pytest
from click.testing import CliRunner

from exchange.cli import bench
from exchange.cli.bench import Sizes, run_bench

if TYPE_CHECKING:
    from collections.abc import Callable

SMALL = Sizes(runs=2, single=5, concurrent=70, backlog=600, evidence_bytes=2 * 1_048_576)


@pytest.mark.slow
async def test_every_figure_is_measured() -> None:
    """Two nodes exchange messages, a backlog longer than a queue and a file; the result has the shape of cli.md."""
    said: list[str] = []
    result = await run_bench(SMALL, said.append)
    assert set(result["messages_per_s"]) == {"c1", "c64", "backlog"}
    assert set(result["latency_ms"]) == {"c1", "c64"}
    assert all(0 < item["p50"] <= item["p99"] for item in result["latency_ms"].values())
    assert result["ratio"]["backlog"] == pytest.approx(statistics.mean(result["runs"]["ratio_backlog"]), abs=0.002)
    assert result["floor_messages_per_s"] == pytest.approx(
        1e6 / max(result["floor_us"]["sender"], result["floor_us"]["receiver"]), rel=0.01
    )
    assert 3_900 <= result["statement_bytes"] <= 4_300
    assert result["messages"] == 1_350
    assert result["rss_mb"]["sender"] > 0
    assert result["rss_mb"]["receiver"] > 0
    assert result["evidence_mb_per_s"] > 0
    assert result["floor_evidence_mb_per_s"] > 0
    decisions = result["decision_us"]
    assert (decisions["agreements"], decisions["clauses"]) == (100, 50)
    taken = [decisions[name][end] for name in ("permitted", "refused") for end in ("sender", "receiver")]
    assert 0 < min(taken) <= max(taken)
    assert said[0] == "two homes, cards, one agreement"


FIGURES = {
    "training": True,
    "messages_per_s": {"c1": 1.0, "c64": 2.0, "backlog": 3.0},
    "latency_ms": {"c1": {"p50": 1.0, "p99": 2.0}, "c64": {"p50": 1.0, "p99": 2.0}},
    "ratio": {"c1": 0.1, "c64": 0.2, "backlog": 0.3},
    "floor_messages_per_s": 10.0,
    "evidence_mb_per_s": 5.0,
    "floor_evidence_mb_per_s": 6.0,
    "decision_us": {
        "agreements": 100,
        "clauses": 50,
        "permitted": {"sender": 1.0, "receiver": 2.0},
        "refused": {"sender": 3.0, "receiver": 4.0},
    },
    "rss_mb": {"sender": 7.0, "receiver": 8.0},
}


@pytest.mark.parametrize("json_output", [True, False])
def test_figures_are_printed(monkeypatch: pytest.MonkeyPatch, json_output: bool) -> None:  # noqa: FBT001
    """People get a table of at most 100 columns that says it is a training network; programs get one document."""

    async def measured(sizes: Sizes, say: Callable[[str], None]) -> dict[str, object]:
        say(f"{sizes.runs} runs of {sizes.backlog}")
        return FIGURES

    monkeypatch.setattr(bench, "run_bench", measured)
    args = ["--runs", "2", "--backlog", "100", *(["--json"] if json_output else [])]
    outcome = CliRunner().invoke(bench.bench, args, standalone_mode=False)
    assert outcome.exception is None
    assert "2 runs of 100" in outcome.stderr
    if json_output:
        assert outcome.stdout.startswith('{"training":true,"messages_per_s":{"c1":1.0')
    else:
        assert "training network" in outcome.stdout
        assert "of the floor" in outcome.stdout
        assert "100 agreements of 50 clauses" in outcome.stdout
        assert max(map(len, outcome.stdout.splitlines())) <= 100
