"""`python -m spotkeeper.ops`, and the console script `spotkeeper`."""

from spotkeeper.ops.cli import app


def main() -> None:
    """Run the command line."""
    app(prog_name="spotkeeper")


if __name__ == "__main__":
    main()
