"""What a researcher's program uses to talk to the parties."""
