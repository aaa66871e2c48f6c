"""What every run of the pipeline has: our heads, hooks and data set, exact resume, one line of progress."""

custom_imports = dict(imports=["fasa.detection", "fasa.detection.dataset"])
default_scope = "mmdet"
default_hooks = dict(
    timer=None,
    logger=None,
    checkpoint=dict(type="ExactResumeHook"),
    progress=dict(type="ProgressHook"),
)
log_level = "WARNING"
visualizer = dict(type="DetLocalVisualizer", vis_backends=[])
