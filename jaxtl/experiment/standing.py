"""How the steps of a run's table stand: which are done, and why others are to be done again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Any

from jaxtl.experiment.schedule import Step
from jaxtl.runs.folder import RunFile, RunFolder
from jaxtl.runs.manifest import State

# By name, what a step was made of.
Inputs = dict[str, str | None]


class Standing:
    """Steps beside the manifest of their folder.

    Args:
        given: files by the name that steps need them by, which no step makes.
    """

    def __init__(
        self, folder: RunFolder, steps: Sequence[Step], given: Mapping[str, Iterable[RunFile[Any]]]
    ) -> None:
        self._folder, self._given = folder, given
        self._steps = {step.name: step for step in steps}

    def fault(self, step: Step) -> str | None:
        """Why a step is to be done; nothing where it never was; None where it is done.

        One that leaves no file for good is done where all that it keeps is there.
        """
        recorded = [file for file in step.leaves if self._folder.manifest.stamps(file.name)]
        if not step.outputs and not recorded:
            return ""
        for file in (*step.outputs, *recorded):
            if (state := file.state) is State.UNMADE:
                return ""
            if state is not State.OK:
                return f"{file.name} {state.value}"
        return self._other_inputs(step)

    def faults(self, again: Collection[str] = ()) -> dict[str, str]:
        """Why steps are to be done, by name; nothing where they never were, or are asked for `again`.

        What leaves no file for good is done where it is needed, and is not among them.
        """
        faults: dict[str, str] = {}
        for step in self._steps.values():
            if step.name in again:
                faults[step.name] = ""
            elif step.outputs or self._lost(step):
                fault = self.fault(step)
                faults |= {} if fault is None else {step.name: fault}
        return faults

    def left(self, again: Mapping[str, Step]) -> list[Step]:
        """Steps to be done now, in the table's order; those that leave no file where one of these needs them.

        Not among them is a step that hangs on one that is done, which itself hangs on one that is not: what
        is made again is mostly the same as it was, and then there is nothing more to do.

        Args:
            again: steps that are done again, by name.
        """
        faulty = self.faults(again)
        done = [step for step in self._steps.values() if step.outputs and step.name not in faulty]
        hanging = {step.name for step in done if self.before(step) & faulty.keys()}
        left: list[Step] = []
        for step in reversed(self._steps.values()):
            needed = not step.outputs and any(step.name in other.needs for other in left)
            if step.name in faulty:
                if not self.before(step) & hanging:
                    left.insert(0, again.get(step.name, step))
            elif needed and self.fault(step) is not None:
                left.insert(0, step)
        return left

    def _lost(self, step: Step) -> bool:
        """Whether a file that a step may leave for good was recorded, and is not what it was."""
        return any(file.is_lost for file in step.leaves if not file.kept)

    def _other_inputs(self, step: Step) -> str | None:
        if not self._folder.manifest.is_there:
            return None
        record, now = self._folder.manifest.steps.get(step.name), self.inputs(step)
        for name in sorted({*now, *record.inputs} if record else now):
            known = record.inputs.get(name, "") if record else ""
            if known is not None and known != now.get(name, ""):
                return f"{name} changed"
        return None

    def inputs(self, step: Step) -> Inputs:
        """What a step is made of, as it is recorded now: every file by name, with its SHA-256."""
        stamps = {file.name: self._folder.manifest.stamps(file.name) for file in self._files_for(step)}
        return {name: known[0].sha256 if known else None for name, known in sorted(stamps.items())}

    def check_inputs(self, step: Step) -> None:
        """Raises JaxtlError where a file that a step is made of is not what is recorded of it."""
        for file in self._files_for(step):
            file.check_intact()

    def before(self, step: Step) -> set[str]:
        """Names of all steps that a step hangs on."""
        names: set[str] = set()
        waiting = list(step.needs)
        while waiting:
            name = waiting.pop()
            if name in self._steps and name not in names:
                names.add(name)
                waiting += self._steps[name].needs
        return names

    def _files_for(self, step: Step) -> Iterator[RunFile[Any]]:
        """Files that a step is made of: of steps that it needs, and of those that these need in their turn
        where they leave none."""
        for need in step.needs:
            yield from self._given.get(need, ())
            if other := self._steps.get(need):
                yield from other.outputs
                for file in other.leaves:
                    if not file.kept and self._is_had(file):
                        yield file
                if not other.outputs:
                    yield from self._files_for(other)

    def record(self, step: Step, inputs: Inputs) -> None:
        """Write down that a step is done, and let go of what was kept for it."""
        files = (*step.outputs, *step.leaves)
        gone = list(self._kept_for(step)) if step.outputs else []
        there = [file.name for file in files if file not in gone]
        if step.outputs or any(file.is_there for file in files):
            self._folder.manifest.record(step.name, there, inputs)
        self._let_go(gone)

    def _kept_for(self, step: Step) -> Iterator[RunFile[Any]]:
        """Files that are kept until a step is done, by itself or by those that it needs, which leave none."""
        yield from (file for file in step.leaves if file.kept)
        for need in step.needs:
            other = self._steps.get(need)
            if other and not other.outputs:
                yield from self._kept_for(other)

    def _let_go(self, files: Collection[RunFile[Any]]) -> None:
        self._folder.manifest.forget(file.name for file in files)
        for file in files:
            file.remove()

    def remove_kept(self) -> None:
        """Let go of all that steps keep for others."""
        self._let_go([file for file in self._folder.files if file.kept])

    def clear(self, step: Step) -> list[RunFile[Any]]:
        """Let go of what a step may leave where it is not of this step as it is now; returns what changed."""
        same = self._other_inputs(step) is None
        stray = [file for file in step.leaves if file.is_there and not (same and file.is_intact)]
        changed = [file for file in stray if file.state is State.CHANGED]
        self._let_go(stray)
        return changed

    def remove_stray(self) -> None:
        """Let go of what is kept for steps, but was never recorded."""
        kept = [file for file in self._folder.files if file.kept]
        self._let_go([file for file in kept if file.state is State.UNRECORDED])

    def adopt(self, start: str, first: Iterable[RunFile[Any]]) -> int:
        """Record all files of a run that has no manifest as they stand. Returns how many steps have left.

        Args:
            start: under which name those stand that the run began with.
            first: these. A manifest without them would say that the run has no settings.
        """
        begun = [file.name for file in first if file.is_there]
        records: dict[str, tuple[list[str], list[str], list[str]]] = {start: (begun, [], [])}
        count = 0
        for step in self._steps.values():
            files = [file.name for file in (*step.outputs, *step.leaves) if file.is_there]
            unmade = [file.name for file in step.outputs if not file.is_there]
            if files or unmade:
                records[step.name] = files, unmade, [file.name for file in self._files_for(step)]
            count += len(files)
        self._folder.manifest.adopt(records)
        return count

    def _is_had(self, file: RunFile[Any]) -> bool:
        manifest = self._folder.manifest
        return bool(manifest.stamps(file.name)) if manifest.is_there else file.is_there
