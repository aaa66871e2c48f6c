"""The other feature augmentations of the paper's comparison, one file each (appendix F)."""
