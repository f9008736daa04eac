"""Pure decisions: no I/O, and the clock and the dice are arguments."""
