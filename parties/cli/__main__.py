"""`python -m parties.cli`: the same as the console script, for starting ourselves from our own interpreter."""

from parties.cli.main import main

main()
