"""`python -m jaxtl`: the command line where its script is not on the path."""

from jaxtl.cli.main import main

if __name__ == "__main__":
    main()
