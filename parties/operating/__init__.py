"""An operator's tools: how the party stands, whether its set-up is sound, what its connections are like."""
