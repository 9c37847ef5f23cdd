"""The image formats that are read: Pillow's names for them, and how their files are named."""

from __future__ import annotations

# Formats that say what they are in their first bytes, and are pictures: no PostScript or PDF, which are
# programs, and none that Pillow takes any bytes for.
SUFFIXES_OF = {
    "PNG": (".png", ".apng"),
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "GIF": (".gif",),
    "BMP": (".bmp", ".dib"),
    "TIFF": (".tif", ".tiff"),
    "WEBP": (".webp",),
    "PPM": (".pgm", ".ppm", ".pbm", ".pnm"),
    "AVIF": (".avif", ".avifs"),
    "JPEG2000": (".jp2", ".j2k", ".jpx", ".j2c", ".jpc"),
    "SGI": (".sgi", ".rgb", ".bw"),
    "QOI": (".qoi",),
}
FORMATS = tuple(SUFFIXES_OF)
SUFFIXES = tuple(suffix for suffixes in SUFFIXES_OF.values() for suffix in suffixes)
