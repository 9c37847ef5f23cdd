"""How deep a pickle nests what it makes, told from its opcodes before any is carried out.

Python hashes nested tuples by recursion in C that nothing stops: a dictionary's key of a million tuples, a
file of a few megabytes, would end the process. So the depth is known first.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterable
from typing import Any

# A checkpoint with an optimizer's state and its trainer's settings has about ten.
MOST = 100
_MARK = -1
# Opcodes that add to what lies below their other operands, which stays on the stack.
_FILLS = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}


def check_nesting(opcodes: Iterable[tuple[Any, Any, Any]]) -> None:
    """Raises RecursionError where something nests deeper than `MOST`, IndexError for a broken pickle.

    Args:
        opcodes: as `pickletools.genops` gives them.
    """
    stack: list[int] = []
    memo: dict[int, int] = {}
    for opcode, argument, _ in opcodes:
        if opcode.name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo.get(int(argument), 0))
        elif opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument)] = stack[-1]
        elif opcode.name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif opcode.name == "MARK":
            stack.append(_MARK)
        else:
            taken = _take(stack, opcode.stack_before)
            depth = _depth(opcode.name, taken)
            stack += [depth] * len(opcode.stack_after)
            if depth > MOST:
                raise RecursionError


def _take(stack: list[int], operands: list[Any]) -> list[int]:
    """Depths of what an opcode takes off the stack, the lowest first."""
    taken = []
    if pickletools.markobject in operands:
        while (top := stack.pop()) != _MARK:
            taken.append(top)
        operands = operands[: operands.index(pickletools.markobject)]
    taken += [stack.pop() for _ in operands]
    return taken[::-1]


def _depth(name: str, taken: list[int]) -> int:
    if name in _FILLS:
        return max(taken[0], 1 + max(taken[1:], default=0))
    return max(taken, default=0) + (name != "DUP")
