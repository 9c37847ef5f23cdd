"""The program: `jaxtl`, and `python -m jaxtl` where that is not on the path."""

from jaxtl.machine import signals, streams


def main() -> None:
    """Do what the command line says, and end the process. It hears signals before anything slow begins."""
    streams.fill()
    signals.hear()
    code = 1
    try:
        from jaxtl.machine import surroundings

        surroundings.shed()
        from jaxtl.cli.main import main as command

        command()
        code = 0
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else int(end.code is not None)
    except BaseException:
        # A fault of jaxtl's. Python would print it at its own end, which is left out.
        signals.end_by_signal()
        import traceback

        traceback.print_exc()
    signals.leave(code)


if __name__ == "__main__":
    main()
