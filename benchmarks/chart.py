"""Bar charts as SVG, written by hand: no library is needed to read or to make one."""

from dataclasses import dataclass
from xml.sax.saxutils import escape

_WIDTH, _LEFT, _RIGHT = 760, 250, 90
_BAR, _GAP, _HEAD = 16, 4, 34
_OURS, _OTHERS = "#2563eb", "#9ca3af"


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar."""

    label: str
    value: float
    text: str
    is_ours: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """Bars on one scale, that of the longest; groups stand apart."""

    title: str
    groups: list[list[Bar]]


def svg(panels: list[Panel]) -> str:
    """Return panels one below the other as a picture that is readable on a light and on a dark page."""
    parts: list[str] = []
    top = 10
    for panel in panels:
        parts.append(f'<text x="10" y="{top + 16}" font-weight="600">{escape(panel.title)}</text>')
        top += _HEAD
        longest = max((bar.value for group in panel.groups for bar in group), default=0) or 1
        for group in panel.groups:
            for bar in group:
                parts += _drawn(bar, top, bar.value / longest)
                top += _BAR + _GAP
            top += 2 * _GAP
        top += _GAP
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {top}" width="{_WIDTH}" height="{top}" '
        f'font-family="system-ui, sans-serif" font-size="12" fill="#111827" role="img">\n'
        f'<rect width="{_WIDTH}" height="{top}" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _drawn(bar: Bar, top: float, share: float) -> list[str]:
    width = max(1.0, share * (_WIDTH - _LEFT - _RIGHT))
    line = top + _BAR - 4
    color = _OURS if bar.is_ours else _OTHERS
    return [
        f'<text x="{_LEFT - 8}" y="{line}" text-anchor="end">{escape(bar.label)}</text>',
        f'<rect x="{_LEFT}" y="{top}" width="{width:.1f}" height="{_BAR}" fill="{color}"/>',
        f'<text x="{_LEFT + width + 6:.1f}" y="{line}">{escape(bar.text)}</text>',
    ]
