"""Tables and figures of the appendix, from metrics alone."""
