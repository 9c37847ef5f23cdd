"""How deep a pickle nests what it makes, and how much that is, told from its opcodes before they run.

Python hashes nested tuples by recursion in C that nothing stops: a dictionary's key of a million tuples, a
file of a few megabytes, would end the process. A key of sixty pairs, each of the pair before it twice, would
keep it busy for ever. So both are known first.
"""

from __future__ import annotations

import pickletools
from collections.abc import Iterable
from typing import Any

# A checkpoint with an optimizer's state and its trainer's settings has about ten.
MOST = 100
# Opcodes, and parts of a value that counts what it shares each time: a network of 160 layers with such a
# state has some 100,000. Of two million Python makes some hundreds of megabytes at the most.
MOST_PARTS = 2_000_000
# Depth, and number of parts.
_Size = tuple[int, int]
_MARK = (-1, 0)
_NOTHING = (0, 1)
# Opcodes that add to what lies below their other operands, which stays on the stack.
_FILLS = {"APPEND", "APPENDS", "SETITEM", "SETITEMS", "ADDITEMS", "BUILD"}


def check_nesting(opcodes: Iterable[tuple[Any, Any, Any]]) -> None:
    """Raises RecursionError where something nests deeper than `MOST`, ValueError where a pickle has or makes
    more than `MOST_PARTS`, IndexError for a broken one.

    Lists and dictionaries are remembered as they are begun, empty: whoever walks through them looks out for
    those that hold one another.

    Args:
        opcodes: as `pickletools.genops` gives them.
    """
    stack: list[_Size] = []
    memo: dict[int, _Size] = {}
    for number, (opcode, argument, _) in enumerate(opcodes):
        if opcode.name in ("GET", "BINGET", "LONG_BINGET"):
            stack.append(memo.get(int(argument), _NOTHING))
        elif opcode.name in ("PUT", "BINPUT", "LONG_BINPUT"):
            memo[int(argument)] = stack[-1]
        elif opcode.name == "MEMOIZE":
            memo[len(memo)] = stack[-1]
        elif opcode.name == "MARK":
            stack.append(_MARK)
        else:
            size = _size(opcode.name, _take(stack, opcode.stack_before))
            stack += [size] * len(opcode.stack_after)
            if size[0] > MOST:
                raise RecursionError
            if max(size[1], number) > MOST_PARTS:
                raise ValueError(f"more than {MOST_PARTS:,} parts")


def _take(stack: list[_Size], operands: list[Any]) -> list[_Size]:
    """What an opcode takes off the stack, the lowest first."""
    taken = []
    if pickletools.markobject in operands:
        while (top := stack.pop()) != _MARK:
            taken.append(top)
        operands = operands[: operands.index(pickletools.markobject)]
    taken += [stack.pop() for _ in operands]
    return taken[::-1]


def _size(name: str, taken: list[_Size]) -> _Size:
    parts = 1 + sum(parts for _, parts in taken)
    depths = [depth for depth, _ in taken]
    if name in _FILLS:
        return max(depths[0], 1 + max(depths[1:], default=0)), parts
    return max(depths, default=0) + (name != "DUP"), parts
