"""Tables that hold what the streams add up to; they can be made anew from the log at any time."""
