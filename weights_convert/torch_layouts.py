"""All layouts of checkpoints that are read: a family of networks joins by a module with `LAYOUTS`."""

from __future__ import annotations

from weights_convert import mobilenet_v2, resnet

LAYOUTS = (*mobilenet_v2.LAYOUTS, *resnet.LAYOUTS)
