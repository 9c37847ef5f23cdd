"""How much of a GPU's memory is in use, as NVIDIA's management library says."""

from __future__ import annotations

import contextlib
import ctypes
import os


class _Memory(ctypes.Structure):
    # nvmlMemory_t of nvml.h.
    _fields_ = (("total", ctypes.c_ulonglong), ("free", ctypes.c_ulonglong), ("used", ctypes.c_ulonglong))


class Card:
    """The GPU that this process's children compute on: the first that CUDA_VISIBLE_DEVICES leaves."""

    def __init__(self) -> None:
        self._library, self._handle = None, ctypes.c_void_p()
        with contextlib.suppress(OSError, AttributeError):
            library = ctypes.CDLL("libnvidia-ml.so.1")
            if library.nvmlInit_v2() == 0 and self._find(library) == 0:
                self._library = library

    def used(self) -> int:
        """Bytes in use by all processes; 0 where nothing tells."""
        memory = _Memory()
        if self._library is None or self._library.nvmlDeviceGetMemoryInfo(self._handle, ctypes.byref(memory)):
            return 0
        return memory.used

    def _find(self, library: ctypes.CDLL) -> int:
        first = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")[0].strip()
        if first and not first.isdecimal():
            return library.nvmlDeviceGetHandleByUUID(first.encode(), ctypes.byref(self._handle))
        return library.nvmlDeviceGetHandleByIndex_v2(int(first or 0), ctypes.byref(self._handle))
