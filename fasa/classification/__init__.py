"""Long-tailed image classification with the FASA that the detector uses (appendix B.2, B.3); no mmdet."""
