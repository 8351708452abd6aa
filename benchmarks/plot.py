"""The figures as a picture: bars, one panel for each comparison."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.report import Bars, short

__all__ = ["draw", "is_possible"]

_OURS, _THEIRS = "#1b7a5a", "#a8b0b8"


def is_possible() -> bool:
    """Whether the library that draws is installed."""
    return find_spec("matplotlib") is not None


def draw(panels: Sequence[Bars], path: Path) -> None:
    """Draw every panel below the last, into one file whose ending says its format."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    heights = [len(panel.values) + 1.5 for panel in panels]
    figure, axes = pyplot.subplots(
        len(panels), figsize=(9, 0.28 * sum(heights)), height_ratios=heights, squeeze=False, layout="constrained"
    )
    for panel, axis in zip(panels, axes[:, 0], strict=True):
        names = list(panel.values)[::-1]
        colours = [_OURS if name.startswith("trio_hub") else _THEIRS for name in names]
        drawn = axis.barh(names, [panel.values[name] for name in names], color=colours)
        axis.bar_label(drawn, [short(panel.values[name]) for name in names], padding=3, fontsize=8)
        axis.set_title(f"{panel.title} ({panel.unit})", fontsize=9, loc="left")
        axis.tick_params(labelsize=8)
        axis.set_xticks([])
        axis.margins(x=0.12)
        axis.spines[["top", "right", "bottom"]].set_visible(False)
    figure.savefig(path)
