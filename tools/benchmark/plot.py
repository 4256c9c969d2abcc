"""The ratios as a picture: for every workload a bar for each peer, as long as this target is faster than it."""

from collections.abc import Iterator
from xml.etree import ElementTree as ET
from xml.etree.ElementTree import Element, SubElement

from tools.benchmark.rounds import Row, Rows, ratio

WIDTH, LABEL_WIDTH, MARGIN = 760, 190, 16
BAR_HEIGHT, BAR_STEP, GROUP_GAP, TITLE_HEIGHT, AXIS_HEIGHT = 9, 11, 9, 52, 22
TICKS = 6  # at most, beside 0
COLOURS = ("#4477aa", "#66ccee", "#ee6677", "#ccbb44", "#aa3377")
TEXT, FAINT, PAPER = "#222222", "#cccccc", "#ffffff"
TITLE = "How many times as fast as its peers: commands a second, ours / theirs"


class _Canvas:
    """An SVG that is drawn on; lengths are pixels."""

    def __init__(self, height: float) -> None:
        size = {"width": str(WIDTH), "height": f"{height:g}", "viewBox": f"0 0 {WIDTH} {height:g}"}
        self.root = Element("svg", {"xmlns": "http://www.w3.org/2000/svg", **size, "font-family": "sans-serif"})
        self.box((0, 0), (WIDTH, height), PAPER)

    def box(self, corner: tuple[float, float], size: tuple[float, float], colour: str) -> None:
        numbers = zip(("x", "y", "width", "height"), (*corner, *size), strict=True)
        SubElement(self.root, "rect", {name: f"{number:.1f}" for name, number in numbers} | {"fill": colour})

    def words(self, place: tuple[float, float], text: str, anchor: str = "start", pixels: int = 11) -> None:
        where = {"x": f"{place[0]:.1f}", "y": f"{place[1]:.1f}", "text-anchor": anchor}
        SubElement(self.root, "text", where | {"font-size": str(pixels), "fill": TEXT}).text = text


def ratios(rows: Rows) -> Iterator[tuple[Row, list[tuple[str, float]]]]:
    """Yields this target's row of every workload of commands, and its ratio to each peer that was measured."""
    for (workload, peer), ours in rows.items():
        if peer == "ours" and ours.runs and ours.workload.unit == "IOPS":
            others = [row for (name, other), row in rows.items() if name == workload and not other.startswith("ours")]
            found = [(row.peer, times) for row in others if (times := ratio(ours, row)) is not None]
            if found:
                yield ours, found


def svg(rows: Rows) -> str:
    """Returns the picture; peers have their colours in the order in which they appear."""
    groups = list(ratios(rows))
    peers = list(dict.fromkeys(peer for _, found in groups for peer, _ in found))
    longest = max([1.0, *(times for _, found in groups for _, times in found)])
    scale = (WIDTH - LABEL_WIDTH - 3 * MARGIN - 20) / longest
    bars = sum(len(found) for _, found in groups)
    bottom = TITLE_HEIGHT + bars * BAR_STEP + len(groups) * GROUP_GAP
    canvas = _Canvas(bottom + AXIS_HEIGHT)
    _draw_legend(canvas, peers)
    _draw_axis(canvas, bottom, longest=longest, scale=scale)
    top = float(TITLE_HEIGHT)
    for ours, found in groups:
        canvas.words((LABEL_WIDTH, top + len(found) * BAR_STEP / 2 + 3), ours.workload.name, "end")
        for peer, times in found:
            canvas.box((LABEL_WIDTH + MARGIN, top), (times * scale, BAR_HEIGHT), COLOURS[peers.index(peer)])
            canvas.words((LABEL_WIDTH + MARGIN + times * scale + 4, top + BAR_HEIGHT - 1), f"{times:.2f}", pixels=9)
            top += BAR_STEP
        top += GROUP_GAP
    ET.indent(canvas.root)
    return ET.tostring(canvas.root, encoding="unicode") + "\n"


def _draw_legend(canvas: _Canvas, peers: list[str]) -> None:
    canvas.words((MARGIN, 20), TITLE, pixels=13)
    for place, peer in enumerate(peers):
        left = LABEL_WIDTH + MARGIN + place * 120
        canvas.box((left, 31), (BAR_HEIGHT, BAR_HEIGHT), COLOURS[place])
        canvas.words((left + 14, 40), peer)


def _draw_axis(canvas: _Canvas, bottom: float, *, longest: float, scale: float) -> None:
    step = next(step for step in (0.25, 0.5, 1, 2, 5, 10, 20, 50, 1e9) if longest / step <= TICKS)
    for place in range(TICKS + 1):
        left = LABEL_WIDTH + MARGIN + place * step * scale
        if place * step <= longest:
            canvas.box((left, TITLE_HEIGHT - 4), (1, bottom - TITLE_HEIGHT + 4), FAINT)
            canvas.words((left, bottom + 13), f"{place * step:g}", "middle", 10)
    canvas.box((LABEL_WIDTH + MARGIN + scale, TITLE_HEIGHT - 4), (1, bottom - TITLE_HEIGHT + 4), TEXT)
