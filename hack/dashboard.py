"""Draws a Grafana dashboard without Grafana: each panel in its place, from what target/tools/bin/dashboard evaluated.

    dashboard deploy/monitoring/dashboard.json FOLDER > panels.json && dashboard.py panels.json docs/dashboard.png

Needs matplotlib. The picture in the docs was made of what /metrics answered each second while `make demo` ran.
"""
import json, re, sys
import matplotlib
matplotlib.use("Agg")
import matplotlib.pyplot as plt

panels = json.load(open(sys.argv[1]))
rows = max(p["grid"]["y"] + p["grid"]["h"] for p in panels)
fig = plt.figure(figsize=(15, rows * 0.34), facecolor="#f4f5f5")

def label(legend, labels):
    if not legend or legend == "__auto":
        return ", ".join(f"{k}={v}" for k, v in labels.items() if k not in ("job", "namespace", "__name__")) or "value"
    return re.sub(r"{{\s*(\w+)\s*}}", lambda m: labels.get(m[1], ""), legend)

def unit(value, kind):
    if kind == "bytes": return f"{value / 2**20:.0f} MiB"
    if kind == "percentunit": return f"{value * 100:.0f} %"
    if kind == "s": return f"{value:.3g} s"
    return f"{value:.4g}"

for p in panels:
    g = p["grid"]
    box = [g["x"] / 24 + 0.022, 1 - (g["y"] + g["h"]) / rows + 0.007, g["w"] / 24 - 0.03, g["h"] / rows - 0.021]
    if p["type"] == "row":
        fig.text(box[0], 1 - (g["y"] + 0.62) / rows, p["title"], fontsize=12, weight="bold")
        continue
    axes = fig.add_axes(box)
    axes.set_title(p["title"], fontsize=9, loc="left")
    series = [(label(t["legend"], s["labels"]), s["points"]) for t in p["targets"] or [] for s in t["series"] or [] if s["points"]]
    if p["type"] == "stat":
        axes.axis("off")
        text = unit(series[0][1][-1][1], p["unit"]) if series else "no data"
        axes.text(0.5, 0.45, text, fontsize=20, ha="center", va="center")
    elif p["type"] == "table":
        axes.axis("off")
        axes.text(0, 0.8, "\n".join(name for name, _ in series), fontsize=7, va="top")
    else:
        for name, points in series:
            axes.plot([x for x, _ in points], [y for _, y in points], label=name, linewidth=1.2, marker="." if len(points) < 4 else None)
        axes.tick_params(labelsize=6)
        axes.grid(alpha=0.3)
        axes.yaxis.set_major_formatter(lambda y, _: unit(y, p["unit"]))
        if series: axes.legend(fontsize=5.5, loc="upper left", ncols=2 if len(series) > 4 else 1)
        else: axes.text(0.5, 0.5, "no data", ha="center", transform=axes.transAxes, fontsize=8, color="gray")
fig.savefig(sys.argv[2], dpi=60)
