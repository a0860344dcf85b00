"""Small parts of the dock, alike wherever they are used."""

from __future__ import annotations

from qtpy.QtCore import Qt
from qtpy.QtGui import QColor, QIcon, QPixmap
from qtpy.QtWidgets import QComboBox, QFrame, QHBoxLayout, QLabel, QPushButton, QSizePolicy, QWidget


def combo(tip: str) -> QComboBox:
    """Make a chooser that shrinks with the dock."""
    box = QComboBox()
    let_shrink(box, tip)
    return box


def let_shrink(box: QComboBox, tip: str) -> None:
    """Let a chooser shrink with the dock, and say what it is for."""
    box.setToolTip(tip)
    box.setMinimumContentsLength(8)
    box.setSizeAdjustPolicy(QComboBox.SizeAdjustPolicy.AdjustToMinimumContentsLengthWithIcon)
    box.setSizePolicy(QSizePolicy.Policy.Expanding, QSizePolicy.Policy.Fixed)


def button(text: str, tip: str) -> QPushButton:
    """Make a button that says what it does."""
    made = QPushButton(text)
    made.setToolTip(tip)
    return made


def note(tip: str = "") -> QLabel:
    """Make a line of plain text that wraps."""
    label = QLabel()
    _let_wrap(label, tip)
    return label


class Remark(QLabel):
    """A note that is hidden while it has nothing to say."""

    def __init__(self, tip: str = "") -> None:
        super().__init__()
        _let_wrap(self, tip)
        self.setVisible(False)

    def say(self, text: str) -> None:
        """Show a text; an empty one hides the note."""
        self.setText(text)
        self.setVisible(bool(text))


def _let_wrap(label: QLabel, tip: str) -> None:
    label.setWordWrap(True)
    label.setToolTip(tip)
    label.setTextFormat(Qt.TextFormat.PlainText)


def line() -> QFrame:
    """Make a rule between two groups."""
    made = QFrame()
    made.setFrameShape(QFrame.Shape.HLine)
    return made


def row(*parts: QWidget) -> QWidget:
    """Put parts beside each other."""
    made = QWidget()
    layout = QHBoxLayout(made)
    layout.setContentsMargins(0, 0, 0, 0)
    for part in parts:
        layout.addWidget(part)
    return made


def swatch(color: tuple[float, float, float]) -> QIcon:
    """Make a square of one colour, RGB 0…1."""
    pixmap = QPixmap(12, 12)
    pixmap.fill(QColor.fromRgbF(*color))
    icon = QIcon(pixmap)
    icon.addPixmap(pixmap, QIcon.Mode.Selected)  # else the style tints the selected one
    return icon


def breaking_at_dots(text: str) -> str:
    """Let lines break between the parts and after commas only, not within "14.2 frames/s"."""
    unbroken = text.replace(" ", "\N{NO-BREAK SPACE}").replace("/", "/\N{WORD JOINER}")
    return unbroken.replace("\N{NO-BREAK SPACE}·\N{NO-BREAK SPACE}", " · ").replace(",\N{NO-BREAK SPACE}", ", ")
