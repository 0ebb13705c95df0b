"""Print the region of an environment, for commands that know its name alone: `python -m stacks.region dev`."""

import sys


def main() -> None:
    """Print it, or say in one sentence why there is none."""
    try:
        # Here, because a profile that is refused is refused when its module is imported.
        from stacks.environments import find_environment

        print(find_environment(" ".join(sys.argv[1:])).region)
    except ValueError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
