"""From a composed configuration to a finished run folder."""
