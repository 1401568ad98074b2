"""``python -m pypsa_p2p``: the command line, and the demonstration where no command is named."""

import sys

from pypsa_p2p.studies.commands import command_line

if __name__ == "__main__":
    arguments = sys.argv[1:]
    named = bool(arguments) and arguments[0] in command_line.commands
    command_line(arguments if named else ["demo", *arguments])
