"""Data sets: the embedded glyphs, and what is read from LVIS annotation files."""
