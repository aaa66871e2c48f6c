"""What every run of the pipeline has: our heads and hooks, exact resume, one line of progress."""

custom_imports = dict(imports=["fasa.detection"])
default_scope = "mmdet"
default_hooks = dict(
    timer=None,
    logger=None,
    checkpoint=dict(type="ExactResumeHook", every=100),
    progress=dict(type="ProgressHook"),
)
log_level = "WARNING"
visualizer = dict(type="DetLocalVisualizer", vis_backends=[])
