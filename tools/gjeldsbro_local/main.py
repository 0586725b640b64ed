"""``python -m gjeldsbro_local.main up|down|status``: the local stack behind `make up` and `make down`."""

import argparse
import sys
import time

from gjeldsbro_local.deployment import DeploymentError
from gjeldsbro_local.stack import LocalStack, StackError


def up(stack: LocalStack) -> int:
    """Start the stack, or say that it runs."""
    if stack.running:
        print(f"The local stack runs already: {stack.stack_file}")
        return 0
    started = time.monotonic()
    try:
        stack.start()
    except (StackError, DeploymentError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"The local stack is ready after {time.monotonic() - started:.0f} s: {stack.stack_file}")
    return 0


def down(stack: LocalStack) -> int:
    """End the stack."""
    print("The local stack has ended." if stack.stop() else "No local stack runs.")
    return 0


def status(stack: LocalStack) -> int:
    """Say whether the stack runs; 0 if it does."""
    print(f"The local stack runs: {stack.stack_file}" if stack.running else "No local stack runs.")
    return 0 if stack.running else 1


def main() -> None:
    """The command line."""
    commands = {"up": up, "down": down, "status": status}
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("command", choices=commands)
    command = commands[parser.parse_args().command]
    sys.exit(command(LocalStack(report=lambda step: print(f"  {step}", flush=True))))


if __name__ == "__main__":
    main()
