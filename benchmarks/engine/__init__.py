"""The engine without a network: this tree beside an earlier commit, in one run."""
