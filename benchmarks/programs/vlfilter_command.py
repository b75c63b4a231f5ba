"""The command `vlfilter` of this tree: its arguments are ours."""

from vlfilter.cli.app import app

if __name__ == "__main__":
    app()
