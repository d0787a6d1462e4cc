"""Pictures of parts: one small scene per category, drawn as SVG for a page and as PNG to play the photo of a part.

A PNG carries the part's id in a ``PartNumber`` text chunk. That is how the sandbox "recognizes" it in an image search.
"""

from __future__ import annotations

import hashlib
import math
import struct
import zlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

from .catalog import category_of

_SIZE = 160
_SCALE = 2
_PAPER = "#f4f6f9"
_SHADOW = "#dde3ea"
_DARK, _MID, _LIGHT, _BRIGHT = "#3b4652", "#7b8794", "#b5bfca", "#e2e8ee"

Point = tuple[float, float]


@dataclass(frozen=True)
class _Circle:
    x: float
    y: float
    radius: float
    fill: str


@dataclass(frozen=True)
class _Polygon:
    points: tuple[Point, ...]
    fill: str


_Shape = _Circle | _Polygon


class _Scene:
    """Shapes from back to front in a square of 160 units."""

    def __init__(self) -> None:
        self.shapes: list[_Shape] = []

    def circle(self, x: float, y: float, radius: float, fill: str) -> None:
        self.shapes.append(_Circle(x, y, radius, fill))

    def polygon(self, points: Iterable[Point], fill: str) -> None:
        self.shapes.append(_Polygon(tuple(points), fill))

    def box(self, x: float, y: float, width: float, height: float, fill: str) -> None:
        self.polygon([(x, y), (x + width, y), (x + width, y + height), (x, y + height)], fill)

    def band(self, points: list[Point], width: float, fill: str) -> None:
        """A thick line with round ends and joints."""
        for x, y in points:
            self.circle(x, y, width / 2, fill)
        for (x1, y1), (x2, y2) in pairwise(points):
            length = math.hypot(x2 - x1, y2 - y1) or 1.0
            dx, dy = (y2 - y1) / length * width / 2, (x1 - x2) / length * width / 2
            self.polygon([(x1 + dx, y1 + dy), (x2 + dx, y2 + dy), (x2 - dx, y2 - dy), (x1 - dx, y1 - dy)], fill)

    def cog(self, x: float, y: float, outer: float, inner: float, teeth: int, fill: str) -> None:
        points = []
        for tooth in range(teeth):
            for share, radius in ((0.0, inner), (0.18, outer), (0.5, outer), (0.68, inner)):
                angle = (tooth + share) / teeth * math.tau
                points.append((x + math.cos(angle) * radius, y + math.sin(angle) * radius))
        self.polygon(points, fill)


def _around(x: float, y: float, radius: float, count: int, turn: float = 0.0) -> list[Point]:
    angles = [(step + turn) / count * math.tau for step in range(count)]
    return [(x + math.cos(angle) * radius, y + math.sin(angle) * radius) for angle in angles]


def _fan(scene: _Scene, tint: str, number: int) -> None:
    scene.box(28, 28, 104, 104, _DARK)
    for x, y in ((38, 38), (122, 38), (38, 122), (122, 122)):
        scene.circle(x, y, 5, _PAPER)
    scene.circle(80, 80, 50, _BRIGHT)
    blades = 5 + number % 4
    for step in range(blades):
        angle = step / blades * math.tau
        scene.polygon(
            [
                (80 + math.cos(angle + turn) * radius, 80 + math.sin(angle + turn) * radius)
                for radius, turn in ((14, 0.0), (32, -0.18), (46, -0.1), (46, 0.42), (30, 0.36), (14, 0.6))
            ],
            tint,
        )
    scene.circle(80, 80, 17, _DARK)
    scene.circle(80, 80, 10, _MID)


def _filter(scene: _Scene, tint: str, number: int) -> None:
    pleats = 7 + number % 4
    scene.box(38, 34, 84, 12, _DARK)
    scene.box(38, 116, 84, 12, _DARK)
    scene.box(42, 46, 76, 70, tint)
    step = 76 / pleats
    for index in range(pleats):
        scene.box(42 + index * step, 46, step * 0.45, 70, _BRIGHT)
    scene.box(42, 77, 76, 6, _MID)


def _bearing(scene: _Scene, tint: str, number: int) -> None:
    scene.circle(80, 80, 54, _MID)
    scene.circle(80, 80, 45, _BRIGHT)
    for x, y in _around(80, 80, 37, 8 + number % 4):
        scene.circle(x, y, 9, _DARK)
        scene.circle(x - 1.5, y - 1.5, 6.5, tint)
    scene.circle(80, 80, 29, _MID)
    scene.circle(80, 80, 20, _PAPER)


def _seal(scene: _Scene, tint: str, number: int) -> None:
    width = 12 + number % 3 * 5
    scene.circle(80, 80, 52, _DARK)
    scene.circle(80, 79, 49, tint)
    scene.circle(80, 80, 52 - width, _DARK)
    scene.circle(80, 81, 50 - width, _PAPER)


def _belt(scene: _Scene, tint: str, number: int) -> None:
    small = 16 + number % 3 * 3
    large = 32
    scene.polygon([(52, 80 - large - 6), (122, 80 - small - 6), (122, 80 + small + 6), (52, 80 + large + 6)], _DARK)
    scene.circle(52, 80, large + 6, _DARK)
    scene.circle(122, 80, small + 6, _DARK)
    scene.polygon([(52, 80 - large), (122, 80 - small), (122, 80 + small), (52, 80 + large)], _PAPER)
    for x, radius in ((52, large), (122, small)):
        scene.circle(x, 80, radius, tint)
        scene.circle(x, 80, radius * 0.7, _LIGHT)
        scene.circle(x, 80, radius * 0.28, _DARK)


def _valve(scene: _Scene, tint: str, number: int) -> None:
    scene.box(24, 78, 112, 34, _MID)
    scene.box(20, 70, 16, 50, _DARK)
    scene.box(124, 70, 16, 50, _DARK)
    scene.circle(80, 95, 30, _LIGHT)
    scene.circle(80, 95, 18, _MID)
    scene.box(74, 44, 12, 30, _DARK)
    if number % 2:
        scene.box(52, 32, 76, 13, tint)
    else:
        scene.band([(54, 40), (106, 40)], 14, tint)
        scene.circle(80, 40, 11, _DARK)


def _motor(scene: _Scene, tint: str, number: int) -> None:
    scene.box(126, 74, 22, 12, _LIGHT)
    scene.box(44, 118, 70, 10, _DARK)
    scene.box(54, 106, 12, 14, _DARK)
    scene.box(92, 106, 12, 14, _DARK)
    scene.box(36, 48, 86, 64, tint)
    for index in range(5 + number % 3):
        scene.box(40, 54 + index * (54 / (5 + number % 3)), 78, 3, _DARK)
    scene.box(24, 52, 14, 56, _DARK)
    scene.box(120, 52, 8, 56, _MID)
    scene.box(62, 32, 36, 18, _MID)


def _sensor(scene: _Scene, tint: str, number: int) -> None:
    scene.band([(16, 122), (30, 126), (44, 116), (54, 106)], 7, _DARK)
    scene.band([(54, 106), (74, 86)], 24, _MID)
    scene.band([(74, 86), (112, 48)], 30, _LIGHT)
    for index in range(4 + number % 2):
        x = 76 + index * 7
        scene.band([(x - 9, 162 - x - 11), (x + 9, 162 - x + 7)], 2, _MID)
    scene.band([(112, 48), (120, 40)], 30, tint)


def _pump(scene: _Scene, tint: str, number: int) -> None:
    scene.box(28, 122, 104, 8, _DARK)
    scene.box(52, 108, 44, 16, _MID)
    scene.box(104, 24, 22, 54, _MID)
    scene.box(98, 20, 34, 9, _DARK)
    scene.circle(80, 78, 46, tint)
    scene.circle(80, 78, 33, _BRIGHT)
    scene.circle(80, 78, 26, _MID)
    for x, y in _around(80, 78, 39.5, 6 + number % 3):
        scene.circle(x, y, 3, _DARK)
    scene.circle(80, 78, 11, _DARK)


def _gear(scene: _Scene, tint: str, number: int) -> None:
    scene.cog(80, 80, 56, 45, 12 + number % 8, _DARK)
    scene.cog(80, 79, 54, 43, 12 + number % 8, tint)
    scene.circle(80, 80, 36, _LIGHT)
    for x, y in _around(80, 80, 24, 4 + number % 3):
        scene.circle(x, y, 7, _PAPER)
    scene.circle(80, 80, 13, _DARK)
    scene.circle(80, 80, 8, _PAPER)


def _spring(scene: _Scene, tint: str, number: int) -> None:
    coils = 6 + number % 4
    step = 100 / coils
    for index in range(coils):
        y = 32 + index * step
        scene.band([(54, y + step / 2), (106, y + step)], 8, _MID)
    for index in range(coils + 1):
        y = 26 + index * step
        scene.band([(54, y + step / 2), (106, y)], 9, tint)


def _screw(scene: _Scene, tint: str, number: int) -> None:
    shaft = 8 + number % 3
    scene.polygon([(56, 24), (104, 24), (112, 36), (112, 52), (48, 52), (48, 36)], tint)
    scene.box(64, 24, 5, 28, _DARK)
    scene.box(91, 24, 5, 28, _DARK)
    scene.box(80 - shaft * 2, 52, shaft * 4, 78, _LIGHT)
    for index in range(9):
        y = 64 + index * 7
        scene.band([(80 - shaft * 2, y + 2), (80 + shaft * 2, y - 2)], 3, _MID)
    scene.polygon([(80 - shaft * 2, 130), (80 + shaft * 2, 130), (80 + shaft, 138), (80 - shaft, 138)], _MID)


def _hose(scene: _Scene, tint: str, number: int) -> None:
    bend = 10 + number % 3 * 6
    curve = [(28 + step * 4.0, 80 + math.sin(step / 26 * math.tau) * bend * 1.6) for step in range(27)]
    scene.band(curve, 26, _DARK)
    scene.band(curve, 18, tint)
    for x in (18, 124):
        scene.box(x, 68, 20, 26, _LIGHT)
        scene.box(x + 7, 62, 7, 38, _MID)


def _relay(scene: _Scene, tint: str, number: int) -> None:
    scene.box(44, 24, 72, 112, _DARK)
    scene.box(48, 46, 64, 68, tint)
    scene.box(56, 56, 48, 24, _BRIGHT)
    for index in range(3 + number % 2):
        x = 53 + index * (54 / (2 + number % 2))
        for y in (35, 125):
            scene.circle(x, y, 7, _LIGHT)
            scene.box(x - 4, y - 1, 8, 2, _DARK)
    scene.circle(62, 97, 5, "#58c27d")
    scene.circle(80, 97, 5, "#e5b84b")


def _roller(scene: _Scene, tint: str, number: int) -> None:
    half = 20 + number % 3 * 4
    scene.box(14, 76, 132, 8, _MID)
    scene.box(30, 80 - half, 100, half * 2, tint)
    scene.box(30, 80 - half, 100, half * 0.5, _LIGHT)
    scene.box(30, 80 + half * 0.6, 100, half * 0.4, _DARK)
    scene.box(26, 78 - half, 8, half * 2 + 4, _DARK)
    scene.box(126, 78 - half, 8, half * 2 + 4, _DARK)


def _brake(scene: _Scene, tint: str, number: int) -> None:
    scene.circle(80, 80, 54, _MID)
    scene.circle(80, 80, 51, _LIGHT)
    for ring, count in ((46, 14), (38, 12)):
        for x, y in _around(80, 80, ring, count + number % 3, 0.5 if ring == 38 else 0):
            scene.circle(x, y, 2.6, _DARK)
    scene.circle(80, 80, 30, _MID)
    scene.circle(80, 80, 14, _PAPER)
    for x, y in _around(80, 80, 22, 5):
        scene.circle(x, y, 3.6, _PAPER)
    scene.polygon([(104, 28), (130, 44), (140, 74), (130, 104), (112, 92), (116, 74), (100, 52)], tint)


_PAINTERS: dict[str, Callable[[_Scene, str, int], None]] = {
    "fans": _fan,
    "filters": _filter,
    "bearings": _bearing,
    "seals": _seal,
    "belts": _belt,
    "valves": _valve,
    "motors": _motor,
    "sensors": _sensor,
    "pumps": _pump,
    "gears": _gear,
    "springs": _spring,
    "screws": _screw,
    "hoses": _hose,
    "relays": _relay,
    "rollers": _roller,
    "brakes": _brake,
}
_TINTS = ("#2f7fb8", "#d9822b", "#4c9a6a", "#b8474f", "#7a6bb3", "#2b9aa6", "#c2a13a", "#66788a")


def _scene(part_id: str) -> _Scene | None:
    category = category_of(part_id)
    if category is None:
        return None
    digest = hashlib.sha256(part_id.encode()).digest()
    scene = _Scene()
    _PAINTERS[category.slug](scene, _TINTS[digest[0] % len(_TINTS)], digest[1])
    return scene


def part_svg(part_id: str) -> bytes | None:
    """The part as an SVG document, or None where there is no such part id."""
    scene = _scene(part_id)
    if scene is None:
        return None
    drawn = "".join(_svg_shape(shape) for shape in scene.shapes)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_SIZE} {_SIZE}" width="{_SIZE}" height="{_SIZE}" '
        f'role="img" aria-label="{part_id}"><defs><linearGradient id="g" x2="0" y2="1"><stop stop-color="#fff"/>'
        f'<stop offset="1" stop-color="#e8edf3"/></linearGradient></defs>'
        f'<rect width="{_SIZE}" height="{_SIZE}" rx="14" fill="url(#g)"/>'
        f'<ellipse cx="80" cy="140" rx="56" ry="7" fill="{_SHADOW}"/>{drawn}</svg>'
    ).encode()


def _svg_shape(shape: _Shape) -> str:
    if isinstance(shape, _Circle):
        return f'<circle cx="{shape.x:.4g}" cy="{shape.y:.4g}" r="{shape.radius:.4g}" fill="{shape.fill}"/>'
    points = " ".join(f"{x:.4g},{y:.4g}" for x, y in shape.points)
    return f'<polygon points="{points}" fill="{shape.fill}"/>'


@lru_cache(maxsize=256)
def part_png(part_id: str) -> bytes | None:
    """The part as a PNG of 320 by 320 pixels with its id in a ``PartNumber`` text chunk; None where there is no such id.

    Post it as the image of a search, and the sandbox finds this part.
    """
    scene = _scene(part_id)
    if scene is None:
        return None
    side = _SIZE * _SCALE
    palette = [_PAPER]
    rows = [bytearray(side) for _ in range(side)]
    for shape in scene.shapes:
        if shape.fill not in palette:
            palette.append(shape.fill)
        color = palette.index(shape.fill)
        for y, start, end in _spans(shape, side):
            rows[y][start:end] = bytes((color,)) * (end - start)
    colors = b"".join(bytes.fromhex(color[1:]) for color in palette)
    pixels = zlib.compress(b"".join(b"\0" + row for row in rows))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in (
            (b"IHDR", struct.pack(">IIBBBBB", side, side, 8, 3, 0, 0, 0)),
            (b"tEXt", b"PartNumber\0" + part_id.encode()),
            (b"PLTE", colors),
            (b"IDAT", pixels),
            (b"IEND", b""),
        )
    )


def _spans(shape: _Shape, side: int) -> Iterable[tuple[int, int, int]]:
    """The pixels of a shape as (row, first column, column after the last)."""
    if isinstance(shape, _Circle):
        x, y, radius = shape.x * _SCALE, shape.y * _SCALE, shape.radius * _SCALE
        for row in range(max(0, math.ceil(y - radius)), min(side, math.floor(y + radius) + 1)):
            half = math.sqrt(max(0.0, radius * radius - (row - y) ** 2))
            yield row, max(0, round(x - half)), max(0, min(side, round(x + half)))
        return
    points = [(x * _SCALE, y * _SCALE) for x, y in shape.points]
    edges = list(zip(points, points[1:] + points[:1], strict=True))
    top, bottom = min(y for _, y in points), max(y for _, y in points)
    for row in range(max(0, math.floor(top)), min(side, math.ceil(bottom))):
        middle = row + 0.5
        crossings = sorted(
            x1 + (middle - y1) / (y2 - y1) * (x2 - x1)
            for (x1, y1), (x2, y2) in edges
            if (y1 <= middle) != (y2 <= middle)
        )
        for left, right in zip(crossings[::2], crossings[1::2], strict=True):
            yield row, max(0, round(left)), max(0, min(side, round(right)))
