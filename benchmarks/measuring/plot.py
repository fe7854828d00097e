"""Cost over size as a picture: seconds at so many machines, ours beside the yardstick's."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from pathlib import Path

from benchmarks.measure import Point


def draw(points: Iterable[Point], path: Path) -> None:
    """Write a PNG. A line that rises by one decade with each decade costs the same for each machine."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    series: dict[str, list[Point]] = defaultdict(list)
    for point in sorted(points, key=lambda point: point.machines):
        series[point.series].append(point)
    figure, axes = plt.subplots(figsize=(8, 5), layout="constrained")
    for number, (name, found) in enumerate(series.items()):
        sizes, colour = [point.machines for point in found], f"C{number}"
        axes.plot(sizes, [point.ours_s for point in found], "o-", color=colour, label=name)
        axes.plot(
            sizes, [point.yardstick_s for point in found], "o:", color=colour, alpha=0.6, label=f"yardstick of {name}"
        )
    axes.set(xscale="log", yscale="log", xlabel="machines", ylabel="seconds", title="Cost over size")
    axes.grid(visible=True, which="both", alpha=0.2)
    axes.legend(fontsize="small")
    figure.savefig(path, dpi=120)
    plt.close(figure)
