"""Session links: their frames, and the streams that carry them between the parties' public ports."""
