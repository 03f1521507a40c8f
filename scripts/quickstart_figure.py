"""Draw the quickstart's table: maj1@1 of each model with its standard error and training seeds.

    python scripts/quickstart_figure.py TABLE results/quickstart.svg

TABLE is a text file that contains the table printed by scripts/quickstart.sh --full:
docs/results.md.
"""

import re
import sys
from pathlib import Path

import matplotlib
from matplotlib.figure import Figure

NAMES = {
    "base": "base",
    "sft": "SFT",
    "sft_matched": "SFT, as many steps as RFT k=16",
    "rft_k4": "RFT k=4",
    "rft_k16_random": "RFT k=16, random right samples",
    "rft_k16": "RFT k=16",
}
ROW = re.compile(
    rf"^({'|'.join(NAMES)}) .*?([\d.]+) (?:± ([\d.]+)|\[.*?\])  +(\S.*?)  ", re.MULTILINE
)


def main() -> None:
    """Read the table and write the figure."""
    table, output = Path(sys.argv[1]), Path(sys.argv[2])
    rows = ROW.findall(table.read_text(encoding="utf-8"))
    with matplotlib.rc_context({"svg.hashsalt": "", "svg.fonttype": "none", "font.size": 10}):
        figure = Figure(figsize=(8, 2.8), layout="constrained")
        axes = figure.subplots()
        for place, (model, score, error, seeds) in enumerate(rows):
            color = "#35b779" if model in ("base", "sft", "rft_k4", "rft_k16") else "#c8c8c8"
            axes.barh(place, float(score), xerr=float(error or 0), capsize=3, color=color)
            dots = [float(seed) for seed in re.findall(r"[\d.]+", seeds)]
            axes.plot(dots, [place + 0.25] * len(dots), "k.", markersize=4)
            axes.text(max([float(score), *dots]) + 2, place, score, va="center")
        axes.set_yticks(range(len(rows)), [NAMES[model] for model, *_ in rows])
        axes.invert_yaxis()
        axes.set(xlim=(0, 100), xlabel="maj1@1, percent ± standard error; dots: training seeds")
        axes.spines[["top", "right"]].set_visible(False)
        figure.savefig(output, metadata={"Date": None} if output.suffix == ".svg" else {})


if __name__ == "__main__":
    main()
