"""Colours of classes: who can tell them apart, and on what."""

import numpy as np
import pytest

from jaxtl.plots.palette import class_colours, class_marks

# Machado, Oliveira & Fernandes 2009 (IEEE TVCG 15:1291), table 1, severity 1, on linear RGB.
VISION = {
    "normal": np.eye(3),
    "protanopia": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deuteranopia": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritanopia": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}
# Paper, and the page's two dark backgrounds.
WHITE, DARK = ["#ffffff"], ["#14171b", "#1c2026"]


def linear(srgb):
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def cielab(linear_rgb):
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    xyz = np.clip(linear_rgb, 0, 1) @ np.transpose(to_xyz) / [0.95047, 1, 1.08883]
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz / (3 * (6 / 29) ** 2) + 4 / 29)
    return np.stack([116 * f[:, 1] - 16, 500 * (f[:, 0] - f[:, 1]), 200 * (f[:, 1] - f[:, 2])], axis=1)


def distances(srgb, vision):
    """CIE76, of each two colours as somebody sees them; infinite of each with itself."""
    lab = cielab(linear(srgb) @ np.transpose(VISION[vision]))
    return np.linalg.norm(lab[:, None] - lab[None], axis=2) + np.diag([np.inf] * len(lab))


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("vision", VISION)
def test_ten_colours_differ_for_everyone(vision, dark):
    assert distances(class_colours(10, dark), vision).min() > (40 if vision == "normal" else 17)


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("vision", VISION)
@pytest.mark.parametrize("classes", [12, 24, 100])
def test_classes_that_follow_each_other_differ_for_everyone(classes, vision, dark):
    apart = distances(class_colours(classes, dark), vision)
    for k in range(1, 10):
        assert np.diagonal(apart, k).min() > 9


@pytest.mark.parametrize("classes", [12, 24, 100])
def test_every_class_has_a_colour_and_a_mark_that_no_other_has(classes):
    colours, marks = class_colours(classes), class_marks(classes)
    assert len({(*colour, mark) for colour, mark in zip(colours.round(3), marks, strict=True)}) == classes
    # One colour in several shades: then the mark tells.
    assert all(marks[k] != marks[k + 10] for k in range(classes - 10))


def luminance(srgb):
    return linear(np.atleast_2d(srgb)) @ [0.2126, 0.7152, 0.0722]


def contrast(colours, background):
    """WCAG 2.2's contrast ratio."""
    ground = luminance([int(background[k : k + 2], 16) / 255 for k in (1, 3, 5)])
    bright, dim = np.maximum(luminance(colours), ground), np.minimum(luminance(colours), ground)
    return (bright + 0.05) / (dim + 0.05)


@pytest.mark.parametrize("classes", [10, 24, 100])
def test_marks_have_the_contrast_that_wcag_asks_for(classes):
    assert all(contrast(class_colours(classes), ground).min() >= 3 for ground in WHITE)
    assert all(contrast(class_colours(classes, dark=True), ground).min() >= 3 for ground in DARK)


def test_a_class_keeps_its_hue_on_a_dark_background():
    light, dark = (cielab(linear(class_colours(10, dark))) for dark in (False, True))
    assert (dark[:, 0] > light[:, 0] + 20).all()
    # As far as screens can show a colour that is so much lighter.
    assert np.abs(dark[:, 1:] - light[:, 1:]).max() < 35
